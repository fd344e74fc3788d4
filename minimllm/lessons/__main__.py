"""``python -m minimllm.lessons [NAME ...]``."""

import sys

from minimllm import lessons

sys.exit(lessons.main())
