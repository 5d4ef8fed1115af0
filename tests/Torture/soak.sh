#!/usr/bin/env bash
# The proof that attaching does no harm, on a KVM host: lab/kvmlab exec --timeout 20000 -- tests/Torture/soak.sh FULL|TENTH
# Build the harness before, where that is faster: dotnet build tests/Torture -c Release. The last line is the count.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-TENTH} in
    FULL) attaches=2000 kills=500 ;;
    TENTH) attaches=200 kills=50 ;;
    *) echo 'usage: soak.sh FULL|TENTH' >&2 && exit 2 ;;
esac

harness=out/artifacts/bin/KvmTsc.Torture/release/KvmTsc.Torture
[[ -x $harness ]] || dotnet build tests/Torture --configuration Release --nologo --verbosity quiet
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
tests/Torture/build-c.sh "$programs"

passed=0 failed=0 summary=''

# part NAME COMMAND...: runs a part, whose last line is its count.
part() {
    local name=$1 status=0 last
    shift
    echo "== $name"
    last=$("$harness" "$@" --programs "$programs" | tee /dev/stderr | tail -n 1) || status=$?
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if ((status != 0 && BASH_REMATCH[2] == 0)); then
            failed=$((failed + 1))
        fi
    else
        echo "$name ended with exit status $status and no count: counted as 1 failed." >&2
        failed=$((failed + 1))
        last='no count'
    fi
    summary+="$(printf '%-48s %s' "$name" "$last")"$'\n'
}

part 'the checks can fail: a naive injector' control
part "attached to $attaches times" attach --count "$attaches"
part "attached to $attaches times, terminals for vCPUs" attach --count "$attaches" --stand-in
part "killed $kills times" kill --count "$kills"
part "killed $kills times, terminals for vCPUs" kill --count "$kills" --stand-in
part 'where it cannot attach' errors

echo
printf '%s' "$summary"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
