"""Is an object what its copy says it was? For what a learner's function must leave alone."""

import torch

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def difference(before, after, strict=True):
    """None, "value", or (`strict`) words for what else differs between a copy and the object.

    Tensors, arrays, networks, optimizers, tables and plain objects, nested as they may be. What is
    of no such kind counts as unchanged.
    """
    if isinstance(before, torch.Tensor):
        return _tensors(before, after, strict)
    if isinstance(before, torch.nn.Module):
        return _networks(before, after, strict)
    if isinstance(before, torch.optim.Optimizer):
        return difference(before.state_dict(), after.state_dict(), strict)
    if type(before) is not type(after):
        return "value"
    if isinstance(before, dict):
        if list(before) != list(after):
            return "value"
        return _first(difference(before[key], after[key], strict) for key in before)
    if isinstance(before, list | tuple):
        if len(before) != len(after):
            return "value"
        return _first(difference(a, b, strict) for a, b in zip(before, after, strict=True))
    if type(before).__module__ == "numpy" and hasattr(before, "shape"):
        equal = before.shape == after.shape and bool(((before == after) | (before != before)).all())
        return None if equal else "value"
    if isinstance(before, int | float | str | set | frozenset | bytes):
        return None if before == after or before != before else "value"
    if hasattr(before, "__dataclass_fields__"):
        return difference(vars(before), vars(after), strict)
    return None


def _first(found):
    return next((words for words in found if words is not None), None)


def _tensors(before, after, strict, name=""):
    what = f"of `{name}`" if name else "of the tensor"
    if not isinstance(after, torch.Tensor) or before.shape != after.shape:
        return "value"
    if before.dtype != after.dtype:
        return f"the dtype {what} is {after.dtype}, it was {before.dtype}"
    without_values = before.device.type == "meta" or before.device != after.device
    if not without_values and not ((before == after) | (before != before)).all():
        return "value"
    if not strict:
        return None
    if before.requires_grad != after.requires_grad:
        return f"`requires_grad` {what} is {after.requires_grad}, it was {before.requires_grad}"
    if before.is_leaf and after.is_leaf:
        old, new = before.grad, after.grad
        if (old is None) != (new is None):
            return f"the gradient {what} is {'lost' if new is None else 'new'}"
        if old is not None and not torch.equal(old, new):
            return f"the gradient {what} is another one"
    return None


def _networks(before, after, strict):
    old, new = before.state_dict(), after.state_dict()
    if old.keys() != new.keys():
        return "value"
    for name in old:
        found = _tensors(old[name], new[name], False, name)
        if found:
            return found
    if not strict:
        return None
    for (name, was), (_, now) in zip(before.named_modules(), after.named_modules(), strict=False):
        place = f"`{name}`" if name else "the network"
        mode = {True: "training", False: "evaluation"}
        if was.training != now.training:
            return f"{place} came in {mode[was.training]} mode and is in {mode[now.training]} mode"
        if any(len(getattr(was, kind)) != len(getattr(now, kind)) for kind in HOOKS):
            return f"a hook was left on {place} or taken away"
    kept, left = dict(before.named_parameters()), dict(after.named_parameters())
    return _first(_tensors(kept[name], left[name], True, name) for name in kept if name in left)
