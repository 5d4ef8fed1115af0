#Requires -Version 7.6
<#
.SYNOPSIS
Measures the rows of the benchmark that take no KVM host, for Measure-All.ps1.
#>
param([string] $Row, [string] $Report)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/Bench.psm1"
$Module = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
$Program = "$PSScriptRoot/../out/artifacts/publish/KvmTsc.Bench/release_linux-x64/KvmTsc.Bench"
$PowerShell = (Get-Process -Id $PID).Path
$Rows = $Row.Split(',')

# A PowerShell from its start to its end.
function Measure-PowerShell([string] $Command) {
    Measure-Time {
        $start = [Diagnostics.ProcessStartInfo]::new($PowerShell, [string[]] ('-NoProfile', '-NonInteractive', '-Command', $Command))
        [Diagnostics.Process]::Start($start).WaitForExit()
    }
}

function Measure-Import {
    $turns = Measure-Turn ([ordered]@{
            Bare   = { Measure-PowerShell '$null' }
            Module = { Measure-PowerShell "Import-Module '$Module'" }
            Host   = { Measure-PowerShell "Import-Module '$Module'; `$null = Get-KvmHost" }
        }) 25
    $import = 0..($turns.Bare.Count - 1) | ForEach-Object { $turns.Module[$_] - $turns.Bare[$_] }
    $first = 0..($turns.Bare.Count - 1) | ForEach-Object { $turns.Host[$_] - $turns.Module[$_] }
    if ('import' -in $Rows) { Add-Measured $Report import $import $turns.Bare }
    if ('host' -in $Rows) { Add-Measured $Report host $first $turns.Module }
}

function Measure-Document {
    $directory = (New-Item "$([IO.Path]::GetTempPath())/bench-$PID" -ItemType Directory).FullName
    try {
        Import-Module $Module
        $vcpus = 0..7 | ForEach-Object { [KvmTsc.Migration.KvmVcpuTscState]::new($_, -46035790060, 2096026, 281474976710656, 48) }
        $machine = [KvmTsc.Hosts.KvmHostIdentity]::new('kvm1', '0123456789abcdef0123456789abcdef', 'bdb1f63e-b352-4a2c-acff-c37667ecdc2e', '6.1.0', 2096026, 8193, 4000, -12.5, 37)
        $names = 1..1000 | ForEach-Object { "$directory/web$_.json" }
        foreach ($name in $names) {
            $state = [KvmTsc.Migration.KvmTscState]::new($name, 4711, '4711:12', 'qemu-system-x86_64', 123456789012345, 1795345054890864385, 9007199254740993, $vcpus, $machine, 512.25, '0.1.0')
            [IO.File]::WriteAllBytes($name, [KvmTsc.States.StateDocument]::Write($state))
        }
        $ways = [ordered]@{
            Import = { Measure-Time { Import-KvmTscState "$directory/*.json" } }
            Parse  = { Measure-Time { foreach ($name in $names) { [Text.Json.JsonDocument]::Parse([IO.File]::ReadAllText($name)).Dispose() } } }
        }
        $first = & $ways.Import
        $turns = Measure-Turn $ways 9
        Add-Measured $Report import-1000 $turns.Import $turns.Parse -Parts ([ordered]@{ 'the first time' = $first })
    }
    finally {
        Remove-Item $directory -Recurse
    }
}

if ('import' -in $Rows -or 'host' -in $Rows) { Measure-Import }
if ('import-1000' -in $Rows) { Measure-Document }
if ('fleet-200' -in $Rows) {
    $taken = [double[]] (& $Program fleet 200 9)
    Add-Measured $Report fleet-200 $taken[1..8] -Parts ([ordered]@{ 'the first time' = $taken[0] })
}
