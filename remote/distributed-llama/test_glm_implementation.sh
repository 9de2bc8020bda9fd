#!/usr/bin/env bash
# The five tests of GLM support: both models converted, both asked, one measured. Run it anywhere; it works in its folder.
set -e
set -o pipefail
cd "$(dirname "$0")"

test_number=0
begin() {
    test_number=$((test_number + 1))
    echo "[$test_number/5] $1..."
}
passed() {
    echo "ok: $1"
}
convert() { # FOLDER NAME
    python converter/convert-hf.py "$1" q40 "$2"
    python converter/convert-tokenizer-hf.py "$1" "$2"
}
ask() { # NAME PROMPT OPTION...
    local name=$1 prompt=$2
    shift 2
    ./dllama inference --model "./converter/$name.m" --tokenizer "./converter/$name.t" --prompt "$prompt" "$@"
}

echo "=== GLM Implementation Test Suite ==="

begin "Converting GLM-4.5-Air-Base"
convert ./GLM-4.5-Air-Base glm4_5_air
passed "GLM-4.5-Air-Base converted"

begin "Basic inference"
ask glm4_5_air "Test" --max-tokens 10
passed "GLM-4.5-Air-Base answers"

begin "Converting INTELLECT-3"
convert ./INTELLECT-3 intellect3
passed "INTELLECT-3 converted"

begin "MoE inference"
ask intellect3 "Test" --max-tokens 10
passed "INTELLECT-3 answers"

begin "Performance benchmark"
ask glm4_5_air "Benchmark test" --benchmark
passed "Benchmark done"

echo
echo "=== All Tests Passed! ==="
