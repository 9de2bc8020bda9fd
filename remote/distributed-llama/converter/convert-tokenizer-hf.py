#!/usr/bin/env python3
"""Convert a Hugging Face tokenizer to `NAME.t` beside this script.

usage: convert-tokenizer-hf.py FOLDER NAME [--extended] [--output PATH]
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dllama_glm.tokenizer.convert import main  # noqa: E402 - the package lies beside this folder, wherever that is

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], default_folder=HERE))
