"""``python -m minimllm.lessons [NAME ...]``."""

import sys

from minimllm.lessons import main

sys.exit(main())
