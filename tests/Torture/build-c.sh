#!/usr/bin/env bash
# Compiles the C programs of the torture test into DIRECTORY: target, naive, interrupt, target32.
set -euo pipefail
into=$(realpath -m -- "${1:?usage: build-c.sh DIRECTORY}")
cd "$(dirname "$0")"
mkdir -p "$into"
flags=(-std=gnu17 -O2 -Wall -Wextra -Werror)
cc "${flags[@]}" -pthread -o "$into/target" target/*.c target/*.S
cc "${flags[@]}" -o "$into/naive" naive.c
cc "${flags[@]}" -o "$into/interrupt" interrupt.c
cc -std=gnu17 -m32 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pie -nostdlib -static -o "$into/target32" target32.c
