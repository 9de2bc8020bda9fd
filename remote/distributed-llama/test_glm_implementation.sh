#!/usr/bin/env bash
# The five tests of GLM support: both models converted, both asked, one measured. Run it anywhere; it works in its folder.
# test_glm_implementation.sh [NUMBER]...: those tests; without a number all five.
set -e
set -o pipefail
cd "$(dirname "$0")"

begin() {
    echo "[$test_number/5] $1..."
}
passed() {
    echo "ok $test_number/5: $1"
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

test_1() {
    begin "Converting GLM-4.5-Air-Base"
    convert ./GLM-4.5-Air-Base glm4_5_air
    passed "GLM-4.5-Air-Base converted"
}
test_2() {
    begin "Basic inference"
    ask glm4_5_air "Test" --max-tokens 10
    passed "GLM-4.5-Air-Base answers"
}
test_3() {
    begin "Converting INTELLECT-3"
    convert ./INTELLECT-3 intellect3
    passed "INTELLECT-3 converted"
}
test_4() {
    begin "MoE inference"
    ask intellect3 "Test" --max-tokens 10
    passed "INTELLECT-3 answers"
}
test_5() {
    begin "Performance benchmark"
    ask glm4_5_air "Benchmark test" --benchmark
    passed "Benchmark done"
}

for test_number in "$@"; do
    if [[ ! $test_number =~ ^[1-5]$ ]]; then
        echo "there is no test $test_number: they are 1 to 5" >&2
        exit 2
    fi
done

echo "=== GLM Implementation Test Suite ==="
if [ $# -eq 0 ]; then
    set -- 1 2 3 4 5
    all="All Tests"
fi
for test_number in "$@"; do
    "test_$test_number"
done
echo
echo "=== ${all:-Tests $*} Passed! ==="
