#!/usr/bin/env bash
# Runs the engine's tests, which need no PowerShell: units and simulated hosts here (unit), the real kernel on a KVM host (kernel), attaching to VMMs
# that SELinux confines (selinux); the kernel alone on an Intel host (intel), and TSC scaling on two of different frequency, from one to the other (scaling).
# tests/engine.sh [unit] [kernel] [selinux] [intel] [scaling] [-- OPTION...], the first three by default; OPTIONs are kvmlab's for all but units and selinux, in
# place of the strictest kernel's. Its last line is the count, after the names of what failed.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=()
while [[ $# -gt 0 && $1 != -- ]]; do parts+=("$1") && shift; done
[[ ${#parts[@]} -gt 0 ]] || parts=(unit kernel selinux)
# As the strictest kernels have it: nobody may write where a process may not, through /proc/PID/mem.
host=(--append proc_mem.force_override=never)
if [[ $# -gt 0 ]]; then shift && host=("$@"); fi
tests=out/artifacts/publish/KvmTsc.Tests/release_linux-x64/KvmTsc.Tests
options=(-noColor -noLogo -reporter verbose -longRunning 120)

passed=0 failed=0 skipped=0 names=()

# count COMMAND...: runs a part and adds what its summary says.
count() {
    local log status=0 summary total found
    log=$(mktemp)
    "$@" 2>&1 | tee "$log" || status=$?
    summary=$(grep -oE 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+, Skipped: [0-9]+' "$log" | tail -n 1) || true
    mapfile -t found < <(sed -nE 's/^ *(.*) \[FAIL\]$/FAILED: \1/p' "$log")
    names+=("${found[@]}")
    rm -f "$log"
    if [[ $summary =~ Total:\ ([0-9]+),\ Errors:\ ([0-9]+),\ Failed:\ ([0-9]+),\ Skipped:\ ([0-9]+) ]]; then
        total=${BASH_REMATCH[1]}
        failed=$((failed + BASH_REMATCH[2] + BASH_REMATCH[3]))
        skipped=$((skipped + BASH_REMATCH[4]))
        passed=$((passed + total - BASH_REMATCH[3] - BASH_REMATCH[4]))
        if ((status != 0 && BASH_REMATCH[2] + BASH_REMATCH[3] == 0)); then
            echo "FAILED: it ended with exit status $status."
            failed=$((failed + 1))
        fi
    else
        echo "FAILED: it ended with exit status $status and no summary."
        failed=$((failed + 1))
    fi
}

# What an Intel host has to be brought for these tests.
bring_tests() {
    local dotnet path
    dotnet=$(dirname "$(realpath "$(command -v dotnet)")")
    intel=(--cpu intel)
    for path in "$(dirname "$tests")" "$dotnet"/{dotnet,host,shared}; do
        intel+=(--bring "$path")
    done
}

# scaling KHZ: one of the hosts between which states go.
scaling() {
    count lab/kvmlab exec "${intel[@]}" --bring tests/scaling.sh --tsc-khz "$1" --timeout 1800 --writable "$states" "${host[@]}" -- \
        tests/scaling.sh "$states" "$tests" "${options[@]}" -diagnostics -trait Category=Scaling
}

[[ -x $tests ]] || dotnet publish tests/KvmTsc.Tests --configuration Release --nologo --verbosity quiet
for part in "${parts[@]}"; do
    case $part in
        unit) count "$tests" "${options[@]}" -trait- Category=Kvm -trait- Category=Scaling ;;
        kernel) count lab/kvmlab exec --timeout 1800 --attempts 2 "${host[@]}" -- "$tests" "${options[@]}" -trait Category=Kvm ;;
        selinux)
            [[ $(type -P checkpolicy) ]] || lab/kvmlab install checkpolicy
            count lab/kvmlab exec --emulate --timeout 1800 --attempts 2 --append 'security=selinux selinux=1' -- \
                tests/selinux.sh "$tests" "${options[@]}" -class KvmTsc.Tests.Attach.AttachedExecutorTests
            ;;
        intel) # the others have QEMU run a guest, or watch: too slow there
            bring_tests
            count lab/kvmlab exec --timeout 1800 --attempts 2 "${intel[@]}" "${host[@]}" -- \
                "$tests" "${options[@]}" -trait Category=Kvm -namespace KvmTsc.Tests.Kernel
            ;;
        scaling)
            bring_tests
            states=$(mktemp -d)
            scaling 50000
            scaling 61457
            rm -r "$states"
            ;;
        *) echo "engine.sh: no part is called $part" >&2 && exit 2 ;;
    esac
done

((${#names[@]} == 0)) || printf '%s\n' "${names[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0 && passed > 0))
