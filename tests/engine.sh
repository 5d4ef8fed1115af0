#!/usr/bin/env bash
# Runs the engine's tests, which need no PowerShell: units and simulated hosts here, the real kernel on a KVM host.
# Its last line is the count.
set -euo pipefail
cd "$(dirname "$0")/.."
configuration=${1:-Release}
tests=out/artifacts/bin/KvmTsc.Tests/${configuration,,}/KvmTsc.Tests

passed=0 failed=0 skipped=0

# count COMMAND...: runs a tier and adds what its summary says.
count() {
    local log status=0 summary total
    log=$(mktemp)
    "$@" 2>&1 | tee "$log" || status=$?
    summary=$(grep -oE 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+, Skipped: [0-9]+' "$log" | tail -n 1) || true
    rm -f "$log"
    if [[ $summary =~ Total:\ ([0-9]+),\ Errors:\ ([0-9]+),\ Failed:\ ([0-9]+),\ Skipped:\ ([0-9]+) ]]; then
        total=${BASH_REMATCH[1]}
        failed=$((failed + BASH_REMATCH[2] + BASH_REMATCH[3]))
        skipped=$((skipped + BASH_REMATCH[4]))
        passed=$((passed + total - BASH_REMATCH[3] - BASH_REMATCH[4]))
        if ((status != 0 && BASH_REMATCH[2] + BASH_REMATCH[3] == 0)); then
            echo "The tier ended with exit status $status: counted as 1 failed."
            failed=$((failed + 1))
        fi
    else
        echo "The tier ended with exit status $status and no summary: counted as 1 failed."
        failed=$((failed + 1))
    fi
}

dotnet build tests/KvmTsc.Tests --configuration "$configuration" --nologo --verbosity quiet
echo '-- units and simulated hosts'
count "$tests" -noColor -longRunning 60 -trait- Category=Kvm
echo '-- real kernel'
count lab/kvmlab exec --timeout 900 --attempts 2 -- "$tests" -noColor -longRunning 60 -trait Category=Kvm

echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0 && passed > 0))
