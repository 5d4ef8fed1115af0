#!/usr/bin/env bash
# Finds PowerShell and hands its arguments to build.ps1: ./build.sh Build|Test|Soak|Demo|Lab|Docs|Package|Clean
# Where PowerShell cannot be had, Test and Demo do what needs none, and say what they left out.
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

main() {
    if command -v pwsh >/dev/null; then
        exec pwsh -NoProfile -File build.ps1 "$@"
    fi
    if ! command -v dotnet >/dev/null; then
        echo 'The .NET 10 SDK is missing. Install it: https://dotnet.microsoft.com/download, or: sudo apt-get install dotnet-sdk-10.0' >&2
        exit 1
    fi
    if dotnet tool restore >/dev/null 2>&1; then
        use_tool
        exec pwsh -NoProfile -File build.ps1 "$@"
    fi
    echo 'PowerShell is missing, and dotnet tool restore could not fetch it. Install it: https://aka.ms/install-powershell' >&2
    without_powershell "${1:-Build}"
}

# Puts the restored PowerShell on PATH, for what build.ps1 starts in turn.
use_tool() {
    local home
    home=$(dotnet tool run pwsh -- -NoProfile -NonInteractive -Command "\$PSHOME")
    mkdir -p out/bin
    printf '#!/bin/sh\nexec dotnet %q "$@"\n' "$home/pwsh.dll" >out/bin/pwsh
    chmod +x out/bin/pwsh
    export PATH=$PWD/out/bin:$PATH
}

without_powershell() {
    case $1 in
        Build)
            dotnet build KvmTsc.sln --configuration Release --nologo --verbosity quiet
            echo 'Built the assemblies. Left out: the staged module, whose help needs PowerShell.'
            ;;
        Test) test_engine ;;
        Demo)
            echo 'Left out: the demo of the cmdlets. This is the same migration by the engine alone.'
            dotnet build samples/MigrateTsc --configuration Release --nologo --verbosity quiet
            lab/kvmlab exec --timeout 600 --attempts 2 -- dotnet out/artifacts/bin/MigrateTsc/release/MigrateTsc.dll
            ;;
        *)
            echo "The task $1 needs PowerShell." >&2
            exit 1
            ;;
    esac
}

test_engine() {
    local status=0 last='' skipped=0 counts file
    exec 3>&1
    last=$({ tests/engine.sh Release || echo "exit $?"; } | tee /dev/fd/3 | tail -n 2)
    case $last in *exit*) status=1 ;; esac
    for file in tests/Pester/*.Tests.ps1; do
        echo "Skipped, since it needs PowerShell: $file"
        skipped=$((skipped + 1))
    done
    counts=$(grep -oE '[0-9]+ passed, [0-9]+ failed' <<<"$last" || echo '0 passed, 1 failed')
    echo "$counts, $skipped skipped"
    exit "$status"
}

main "$@"
