#!/usr/bin/env bash
# The proof that attaching does no harm, on a KVM host: lab/kvmlab exec --cpus 1 --timeout 10000 -- tests/Torture/soak.sh FULL|TENTH [PART]...
# PART is control, attach, kill, acts, watch, guard or errors; all of them by default. Build it before, where that is faster: tests/Torture/build. The last line is the count.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-TENTH} in
    FULL) attaches=2000 kills=500 watches=200 guards=100 exits=20 dying=() ;;
    TENTH) attaches=200 kills=50 watches=20 guards=10 exits=4 dying=(--only running) ;;
    *) echo 'usage: soak.sh FULL|TENTH [PART]...' >&2 && exit 2 ;;
esac
shift || true
parts=("$@")
[[ ${#parts[@]} -gt 0 ]] || parts=(control attach kill acts watch guard errors)

# Other users run these, too, who may have no way to where this checkout is.
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
chmod 755 "$programs"
built=$(tests/Torture/build)
cp -- "$built"/* "$programs"

passed=0 failed=0 summary=''

# part NAME COMMAND...: runs a part, whose last line is its count.
part() {
    local name=$1 status=0 last
    shift
    echo "== $name"
    last=$("$programs/KvmTsc.Torture" "$@" | tee /dev/stderr | tail -n 1) || status=$?
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

for name in "${parts[@]}"; do
    case $name in
        control) part 'the checks can fail: a naive injector' control ;;
        attach) part "attached to $attaches times" attach --count "$attaches" ;;
        kill) part "killed $kills times" kill --count "$kills" ;;
        acts) part 'killed after each act' acts "${dying[@]}" ;;
        watch) part "waited for a resume $watches times" watch --count "$watches" ;;
        guard) part "watched clocks, and killed $guards times" guard --count "$guards" ;;
        errors) part 'where it cannot attach' errors --count "$exits" ;;
        *) echo "soak.sh: no part is called $name" >&2 && exit 2 ;;
    esac
done

echo
printf '%s' "$summary"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
