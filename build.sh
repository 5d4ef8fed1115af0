#!/usr/bin/env bash
# Finds PowerShell and hands its arguments to build.ps1: ./build.sh Build|Check|Test|Soak|Matrix|Intel|Bench|Demo|Lab|Docs|Package|Release|Clean
# Where PowerShell cannot be had, Test and Demo do what needs none, and say what they left out.
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
[[ -t 1 && -t 2 ]] || export NO_COLOR=1

main() {
    if ! command -v pwsh >/dev/null; then
        if ! command -v dotnet >/dev/null; then
            echo 'The .NET 10 SDK is missing. Install it: https://dotnet.microsoft.com/download, or: sudo apt-get install dotnet-sdk-10.0' >&2
            exit 1
        fi
        if ! dotnet tool restore >/dev/null 2>&1; then
            echo 'PowerShell is missing, and dotnet tool restore could not fetch it. Install it: https://aka.ms/install-powershell' >&2
            without_powershell "${1:-Build}"
            return
        fi
        use_tool
    fi
    exec pwsh -NoProfile -File build.ps1 "$@"
}

# Puts the restored PowerShell on PATH, compiled ahead, for what build.ps1 starts in turn.
use_tool() {
    local home built=$PWD/out/powershell
    home=$(dotnet tool run pwsh -- -NoProfile -NonInteractive -Command "\$PSHOME")
    if [[ $(cat "$built/compiled-from" 2>/dev/null) != "$home" ]]; then
        echo 'Compiling PowerShell ahead, once, which makes everything after it faster'
        rm -rf "$built"
        if dotnet publish lab/powershell --configuration Release --nologo --verbosity quiet -p:PowerShellHome="$home" --output "$built"; then
            chmod a+x "$built/pwsh" # as a tool it is its owner's only
            echo "$home" >"$built/compiled-from"
        else
            built=$home
        fi
    fi
    # The program pwsh finds .NET by this.
    DOTNET_ROOT=$(dirname "$(readlink -f "$(command -v dotnet)")")
    export DOTNET_ROOT PATH=$built:$PATH
}

without_powershell() {
    case $1 in
        Build)
            dotnet build KvmTsc.sln --configuration Release --nologo --verbosity quiet
            echo 'Built the assemblies. Left out: the staged module, which needs PowerShell.'
            ;;
        Test) test_engine ;;
        Demo)
            echo 'Left out: the demo of the cmdlets. This is the same migration by the engine alone.'
            dotnet publish samples/MigrateTsc --configuration Release --nologo --verbosity quiet
            lab/kvmlab exec --timeout 600 --attempts 2 -- out/artifacts/publish/MigrateTsc/release_linux-x64/MigrateTsc
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
    last=$({ tests/engine.sh unit kernel || echo "exit $?"; } | tee /dev/fd/3 | tail -n 2)
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
