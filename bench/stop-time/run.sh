#!/usr/bin/env bash
# How long a QEMU stands still, on a KVM host: lab/kvmlab exec --cpus 1 -- bench/stop-time/run.sh [VCPUS]
# Where that is an emulated one, publish the program before, outside, where it takes a tenth of the time.
set -euo pipefail
cd "$(dirname "$0")/../.."
vcpus=${1:-64}
programs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$programs"' EXIT
cc -std=gnu17 -O2 -Wall -Wextra -Werror -pthread -o "$programs/vmm" bench/vmm.c
cc -std=gnu17 -O2 -Wall -Wextra -Werror -o "$programs/naive" tests/Torture/naive.c
bench=out/artifacts/publish/StopTime/release_linux-x64/StopTime
[[ -x $bench ]] || dotnet publish bench/stop-time --configuration Release --runtime linux-x64 --no-self-contained --nologo --verbosity quiet

# A firmware that finds nothing to boot, and waits. All vCPUs have run once it has counted them.
qemu-system-x86_64 -accel kvm -cpu host -smp "$vcpus" -m 256 -nodefaults -no-user-config -display none &
qemu=$!
until [[ $(cat /sys/kernel/debug/kvm/$qemu-*/vcpu*/pid 2>/dev/null | grep -vcx 0) == "$vcpus" ]]; do
    kill -0 "$qemu" 2>/dev/null || { echo 'QEMU ended, see above.' >&2 && exit 1; }
    sleep 0.2
done
sleep 5
"$bench" "$qemu" "$programs/vmm" "$programs/naive"
