#Requires -Version 7.6
<#
.SYNOPSIS
Measures what KvmTsc takes, each figure in turns with its floor or its rivals, and shows it beside its goal.
.DESCRIPTION
./build.sh Bench runs it, after a build. Goals.psd1 has the rows. What takes no KVM host is measured on this machine, all else on a KVM host, an emulated one where this machine has no
/dev/kvm. The table goes to the terminal, all that was measured to bench.json, its chart to bench.svg. Machines that do other things meanwhile say so by their load.
.EXAMPLE
./Measure-All.ps1 'list-*'
#>
[CmdletBinding()]
param(
    # The rows to measure, by their names in Goals.psd1.
    [Parameter(Position = 0)]
    [SupportsWildcards()]
    [string] $Only = '*',

    # Where bench.json, bench.svg and what they are made of go.
    [string] $Out = "$PSScriptRoot/../out"
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
Import-Module "$PSScriptRoot/Bench.psm1"
$Lab = "$PSScriptRoot/../lab/kvmlab"
$Chart = "$PSScriptRoot/../out/artifacts/publish/KvmTsc.Bench/release_linux-x64/KvmTsc.Bench"
$Work = "$Out/bench"
$Where = & $Lab where

function Get-Load {
    [double] (Get-Content /proc/loadavg).Split(' ')[0]
}

# Measures the rows of a place in a PowerShell of their own, as a user has one. Returns the load around it, and what was measured by its row.
function Measure-Place([string] $Place, [hashtable[]] $Row) {
    $report = "$Work/$Place.jsonl"
    $command = @('pwsh', '-NoProfile', '-NonInteractive', '-File', "$PSScriptRoot/Measure-$Place.ps1", ($Row.Name -join ','), $report)
    if ($Place -eq 'Kvm') {
        $command = @($Lab, 'exec', '--cpus', '1', '--memory', '8G', '--timeout', '1800', '--writable', $Work, '--append', 'norandmaps', '--') + $command
    }
    $load = Get-Load
    & $command[0] $command[1..($command.Count - 1)] | Out-Host
    [pscustomobject]@{ Load = @($load, (Get-Load)); Measured = @(Get-Content $report | ConvertFrom-Json -AsHashtable) }
}

function Get-Spread([double[]] $Value) {
    if ($Value) {
        $sorted = @($Value | Sort-Object)
        [ordered]@{ Median = Get-Median $Value; Least = $sorted[0]; Most = $sorted[-1]; Count = $Value.Count }
    }
}

# A row as the table has it: what was measured, by its goal.
function Get-Row([hashtable] $Goal, [hashtable] $Measured) {
    $figure, $floor = (Get-Spread $Measured.Figure), (Get-Spread $Measured.Floor)
    $rivals = [ordered]@{}
    $Measured.Rivals.Keys | ForEach-Object { $rivals[$_] = Get-Spread $Measured.Rivals[$_] }
    $most = $Goal['Most']
    $unit = switch ($Goal['Of']) {
        Figure { 1 }
        Floor { $floor.Median }
        { $_ -in $rivals.Keys } { $rivals[$_].Median }
    }
    $ofGoal = $most ? $figure.Median / $unit / $most : $null
    [pscustomobject][ordered]@{
        Name   = $Goal.Name
        What   = $Goal.What
        Place  = $Goal.Place
        Unit   = $Goal.Unit
        Goal   = Get-GoalText $Goal
        Figure = $figure
        Floor  = $floor ? [ordered]@{ What = $Goal['Floor'] } + $floor : $null
        Rivals = $rivals
        Parts  = $Measured.Parts
        Ratio  = $floor ? $figure.Median / $floor.Median : $null
        OfGoal = $ofGoal
        Met    = $most ? $ofGoal -le 1 : $null
        Told   = Get-SpreadText $figure $Goal.Unit
        Reason = $most -and $ofGoal -gt 1 ? $Goal['Reason'] : $null
    }
}

function Get-GoalText([hashtable] $Goal) {
    switch ($Goal['Of']) {
        $null { '' }
        Figure { "$($Goal.Most) $($Goal.Unit)" }
        Floor { "$($Goal.Most) x" }
        default { "$($Goal.Most) x $_" }
    }
}

function Get-NumberText([double] $Value) {
    $Value.ToString([Math]::Abs($Value) -ge 100 ? '#,0' : [Math]::Abs($Value) -ge 1 ? '0.0' : '0.###', [cultureinfo]::InvariantCulture)
}

function Get-SpreadText($Spread, [string] $Unit) {
    if ($Spread) {
        $text = "$(Get-NumberText $Spread.Median) $Unit"
        $Spread.Count -gt 1 ? "$text ($(Get-NumberText $Spread.Least) to $(Get-NumberText $Spread.Most))" : $text
    }
}

function Show-Row([pscustomobject[]] $Row) {
    ($Row | Format-Table -Wrap @(
        @{ Name = 'Row'; Expression = 'Name' }
        @{ Name = 'What'; Expression = 'What' }
        @{ Name = 'Goal'; Expression = 'Goal' }
        @{ Name = 'Figure'; Expression = 'Told' }
        @{ Name = 'Floor'; Expression = { Get-SpreadText $_.Floor $_.Unit } }
        @{ Name = 'Ratio'; Expression = { if ($null -ne $_.Ratio) { Get-NumberText $_.Ratio } } }
        @{ Name = 'Goal is'; Expression = { if ($null -ne $_.Met) { $_.Met ? 'met' : 'OVER' } } }
    ) | Out-String -Width 190).TrimEnd()
    ''
    foreach ($one in $Row) {
        $more = @(
            if ($one.Floor) { "floor: $($one.Floor.What)" }
            foreach ($part in $one.Parts.Keys) { "${part}: $(Get-NumberText $one.Parts[$part]) $($one.Unit)" }
            foreach ($rival in $one.Rivals.Keys) { "${rival}: $(Get-SpreadText $one.Rivals[$rival] $one.Unit)" }
            if ($one.Reason) { "OVER: $($one.Reason)" }
        )
        if ($more) { "$($one.Name): $($more -join '; ')" }
    }
}

$rows = @((Import-PowerShellDataFile "$PSScriptRoot/Goals.psd1").Rows | Where-Object Name -Like $Only)
if (-not $rows) {
    throw "No row of the benchmark is named like '$Only'."
}
if (Test-Path $Work) {
    Remove-Item $Work -Recurse
}
Invoke-Compiler $Work
$measured, $load = @{}, [ordered]@{}
foreach ($place in $rows | Group-Object Place) {
    $taken = Measure-Place $place.Name $place.Group
    $load[$place.Name] = $taken.Load
    $taken.Measured | ForEach-Object { $measured[$_.Name] = $_ }
}
$table = @($rows | ForEach-Object { Get-Row $_ $measured[$_.Name] })
[ordered]@{
    Date   = (Get-Date).ToUniversalTime().ToString('s') + 'Z'
    Kvm    = $Where
    Cpu    = (Select-String '^model name\s*: (.*)' /proc/cpuinfo | Select-Object -First 1).Matches.Groups[1].Value
    Cpus   = [Environment]::ProcessorCount
    Load   = $load
    Rows   = $table
} | ConvertTo-Json -Depth 6 | Set-Content "$Out/bench.json"
if ($table.Where({ $null -ne $_.OfGoal })) {
    & $Chart chart "$Out/bench.json" "$Out/bench.svg"
}
Show-Row $table
''
"KVM host: $Where. Load of this machine, before and after, besides what is measured: $(($load.Keys | ForEach-Object { "$_ $($load[$_] -join ', ')" }) -join '; ')."
"The whole is in $(Convert-Path "$Out/bench.json")."
