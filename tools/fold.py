"""Which cells only draw: their code is folded on the page, and opens by one click.

What a learner is here to learn is never folded: a cell that builds, trains, measures or asserts, or
makes something that a cell in plain sight uses.
"""

import ast

FOLDED = "hide-input"  # the tag that myst-nb folds; Jupyter and Colab show such cells as ever
OPEN = "keep-open"  # an author's tag: this drawing is itself the lesson
LANDING = "landing"  # on the first page the picture comes first; chapter 03 teaches its code
ENDS = {("plot", "show"), ("explore", "sliders"), ("diagram", "show"), ("diagram", "compare")}
NOT_DRAWING = {"train", "probe", "resnet", "batch_norm", "nn", "F"}
SHORTEST = 5  # lines: folding less would hide more words than it saves


def folded(cells):
    """The numbers of the code cells that only draw, among the cells of a notebook."""
    trees = {}
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            trees[number] = parsed(cell.source)
    only_draw = {
        number
        for number, tree in trees.items()
        if tree is not None and OPEN not in tags(cells[number]) and draws(tree, cells[number])
    }
    while True:  # a cell stays open if one in plain sight uses what it makes
        used = set()
        for number, tree in trees.items():
            if tree is not None and number not in only_draw:
                used |= {(name, number) for name in needs(tree)}
        open_after_all = {
            number
            for number in only_draw
            if any(name in makes(trees[number]) and later > number for name, later in used)
        }
        if not open_after_all:
            landing = {number for number in trees if LANDING in tags(cells[number])}
            return only_draw | landing
        only_draw -= open_after_all


def tags(cell):
    return cell.metadata.get("tags", [])


def parsed(source):
    try:
        return ast.parse(source)
    except SyntaxError:  # magics
        return None


def draws(tree, cell):
    """Ends with a drawing, and neither builds nor trains nor measures nor asserts anything."""
    if not tree.body or len(cell.source.splitlines()) < SHORTEST or "exercise" in tags(cell):
        return False
    if any(isinstance(node, ast.Assert | ast.ClassDef | ast.Import) for node in ast.walk(tree)):
        return False
    last = tree.body[-1]
    return (is_drawing(last) or draws_when_called(last)) and not reads(tree) & NOT_DRAWING


def is_drawing(statement):
    """Is it `plot.show(...)`, or its result returned?"""
    called = statement.value if isinstance(statement, ast.Expr | ast.Return) else None
    function = called.func if isinstance(called, ast.Call) else None
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    return (function.value.id, function.attr) in ENDS


def draws_when_called(statement):
    """A function that returns a drawing, as sliders need one."""
    return isinstance(statement, ast.FunctionDef) and is_drawing(statement.body[-1])


def reads(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def needs(tree):
    """Names that a cell takes from earlier ones."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {node.id for node in nodes} - stored - arguments


def makes(tree):
    """Names that a cell gives to later ones."""
    made = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            made |= set() if draws_when_called(node) else {node.name}
        else:
            made |= {
                one.id
                for one in ast.walk(node)
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            }
    return made
