#!/usr/bin/env bash
# Compiles what is measured and measures it, on a KVM host: lab/kvmlab exec -- bench/stop-time/run.sh [VCPUS]
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
cc -std=gnu17 -O2 -Wall -Wextra -Werror -pthread -o "$programs/vmm" bench/stop-time/vmm.c
cc -std=gnu17 -O2 -Wall -Wextra -Werror -o "$programs/naive" tests/Torture/naive.c
bench=out/artifacts/bin/StopTime/release/StopTime
[[ -x $bench ]] || dotnet build bench/stop-time --configuration Release --nologo --verbosity quiet
"$bench" "$programs/vmm" "$programs/naive" "${1:-64}"
