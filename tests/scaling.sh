#!/usr/bin/env bash
# Runs a command on an emulated host (kvmlab exec --cpu intel) whose CLOCK_REALTIME is right by its own word, and later than that of any host that left a state in
# DIRECTORY, which KVMTSC_STATES then names. tests/scaling.sh DIRECTORY COMMAND...
set -euo pipefail
grep -q kvmlab_host= /proc/cmdline || { echo "scaling.sh: this sets the clock, and is only for emulated hosts" >&2 && exit 2; }
export KVMTSC_STATES=$1
shift
latest=$(sed -n 's/.*"Realtime":\([0-9]*\)[0-9]\{9\}.*/\1/p' "$KVMTSC_STATES"/*.reading 2>/dev/null | sort -n | tail -n 1) || true
[[ -z $latest ]] || date --set="@$((latest + 100))" >/dev/null

# adjtimex(ADJ_STATUS | ADJ_ESTERROR | ADJ_MAXERROR): synchronised, to 1 ms
LC_ALL=C perl -e 'my $timex = pack("L x4 q4 l x164", 0x1C, 0, 0, 1000, 0, 0); syscall(159, $timex)'
exec "$@"
