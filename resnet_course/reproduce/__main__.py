"""`python -m resnet_course.reproduce`: see `command_line`."""

import sys

from .command_line import main

sys.exit(main())
