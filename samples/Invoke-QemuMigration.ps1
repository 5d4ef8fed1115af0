#Requires -Version 7.6
<#
.SYNOPSIS
Migrates a running QEMU/KVM guest, once without and once with KvmTsc, and has the guest's own clocks tell what it cost.
.DESCRIPTION
The guest is a Linux whose two vCPUs read their clocks over and over (lab/guest). It is stopped and resumed in one of these ways:

Migrate        live, by QMP, into a second QEMU; it is stopped while that is under way, and continued at the destination
LiveMigrate    live, by QMP, into a second QEMU; QEMU itself stops and resumes it
PauseContinue  stopped and continued in one QEMU, the same in all runs
SaveRestore    stopped, saved to a file, and restored from it into a new QEMU

KvmTsc takes two commands: Save-KvmTscState, at any time before, and Restore-KvmTscState -AtResume, which waits for the moment of resume. To another
host it takes one: Invoke-KvmTscMigration -DestinationSession -AtResume. The guest is judged by CLOCK_REALTIME of both hosts then, and may be
off by the predicted bound, to which these may be apart, and 50 us and 20 ppm of the time since for the judge.

Watched, it takes none: Watch-KvmClock -Correct runs, and nobody tells it that the guest is paused. It is continued when the watch has seen that: on an emulated host that may take
longer than the pause.
.EXAMPLE
./Invoke-QemuMigration.ps1 -Scenario LiveMigrate -ClockSource tsc
.EXAMPLE
./Invoke-QemuMigration.ps1 -Scenario PauseContinue -Run Without, Watched
.EXAMPLE
./Invoke-QemuMigration.ps1 -Scenario LiveMigrate -DestinationHost h2
#>
[CmdletBinding()]
param(
    # How the guest is stopped and resumed.
    [ValidateSet('Migrate', 'LiveMigrate', 'PauseContinue', 'SaveRestore')]
    [string] $Scenario = 'Migrate',

    # What the guest takes its time from. The last is the reference clock of Hyper-V, as Windows has it.
    [ValidateSet('kvm-clock', 'tsc', 'hyperv_clocksource_tsc_page')]
    [string] $ClockSource = 'kvm-clock',

    # How long the guest stands still, at least.
    [ValidateRange(5, 600)]
    [int] $DowntimeSeconds = 5,

    # Which runs: without KvmTsc the guest loses time, with it none, nor where it is watched.
    [ValidateSet('Without', 'With', 'Watched')]
    [string[]] $Run = @('Without', 'With'),

    # Another host to migrate to, over the network: it is reached by SSH, and has the same files at the same paths.
    [string] $DestinationHost,

    # The TCP port there for the guest.
    [int] $Port = 49152,

    # Where by how much the guest's clock was off, and when, is written to, as JSON.
    [string] $CoursePath
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/QemuMigration/Qemu.psm1", "$PSScriptRoot/QemuMigration/ClockLog.psm1", "$PSScriptRoot/QemuMigration/Runs.psm1" -Verbose:$false
$staged = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
$Module = (Test-Path $staged) ? $staged : 'KvmTsc'
Import-Module $Module -Verbose:$false

if ($DestinationHost -and $Scenario -notin 'Migrate', 'LiveMigrate') {
    throw "$Scenario takes place on one host."
}

if ('Watched' -in $Run -and $Scenario -ne 'PauseContinue') {
    throw "A watch knows the clocks of one VM: $Scenario makes another."
}

$Build = "$PSScriptRoot/../lab/guest/build"
$Image = & $Build
$Downtime = [timespan]::FromSeconds($DowntimeSeconds)
$Directory = Join-Path ([IO.Path]::GetTempPath()) "QemuMigration-$PID"
$Guests = [Collections.Generic.List[object]]::new()

# Two sessions: in one KvmTsc waits, by the other the guest is spoken to.
$Session, $Control = $DestinationHost ? (New-PSSession -HostName $DestinationHost, $DestinationHost) : @($null, $null)
$Uri = $DestinationHost ? "tcp:${DestinationHost}:$Port" : "unix:$Directory/migration"
if ($Session) {
    Invoke-Command $Session { Import-Module $using:Module }
    Invoke-Command $Control {
        Import-Module "$using:PSScriptRoot/QemuMigration/Qemu.psm1", "$using:PSScriptRoot/QemuMigration/ClockLog.psm1"
        $null = & $using:Build
    }
}

function Open-MigrationGuest([string] $Name, [string] $Incoming, $Session) {
    $guest = Open-Guest $Name -Directory $Directory -Image $Image -ClockSource $ClockSource -Incoming $Incoming -Session $Session
    $Guests.Add($guest)
    $guest
}

function Close-MigrationGuest {
    foreach ($guest in $Guests) {
        Use-Guest $guest { param($there) Close-Guest $there }
    }
    $Guests.Clear()
    Remove-Item $Directory -Recurse -ErrorAction Ignore
    if ($Control) {
        Invoke-Command $Control { Remove-Item $using:Directory -Recurse -ErrorAction Ignore }
    }
}

# --- KvmTsc

# What the clocks are to be taken from: Invoke-KvmTscMigration takes the guest itself.
function Save-ClockState($Guest, [bool] $WithKvmTsc) {
    if ($WithKvmTsc) {
        $Session ? $Guest.Name : (Save-KvmTscState $Guest.Name)
    }
}

# Begins to wait for the guest's resume, in a thread of its own, and returns when that has all threads of the QEMU in view.
function Open-Restore($Guest, $State) {
    if (-not $State) {
        return
    }
    $name = $Guest.Name
    $job = Start-ThreadJob {
        Import-Module $using:Module
        if ($using:Session) {
            Invoke-KvmTscMigration $using:State $using:name -DestinationSession $using:Session -AtResume -Confirm:$false
        }
        else {
            Restore-KvmTscState $using:name $using:State -AtResume
        }
    }
    Wait-Until "$name is watched" {
        Assert-Running $job
        Use-Guest $Guest { param($there) Test-IsWatched $there }
    }
    $job
}

# A watch sees by itself that the guest is paused. How soon that is depends on the host: some tenths of a second, or many where others have its processors.
function Wait-Armed($Watch, $Guest) {
    Wait-Until 'the watch holds the paused guest' {
        Assert-Running $Watch
        ($Watch.Output | Where-Object Event -EQ Paused) -and (Test-IsWatched $Guest)
    }
}

# What the watch has told about lost time.
function Get-Told($Watch) {
    $Watch.Output | Where-Object LostNanoseconds
}

# --- the scenarios: each returns the guest that lives on, and the job that restores its clocks

function Invoke-Migrate($Source, [bool] $WithKvmTsc) {
    $state = Save-ClockState $Source $WithKvmTsc
    $destination = Open-MigrationGuest web01-new $Uri -Session $Control
    $restore = Open-Restore $destination $state

    Invoke-Precopy $Source -BytesPerSecond 4MB
    $null = Invoke-Qmp $Source stop
    $null = Invoke-Qmp $Source migrate-set-parameters @{ 'max-bandwidth' = 1GB }
    Complete-Migration $Source
    Use-Guest $destination {
        param($there)
        Wait-Until 'the destination has received all' { (Invoke-Qmp $there query-status).status -eq 'paused' }
        $null = Invoke-Qmp $there cont
    }
    @{ Guest = $destination; Restore = $restore }
}

function Invoke-LiveMigrate($Source, [bool] $WithKvmTsc) {
    $state = Save-ClockState $Source $WithKvmTsc
    $destination = Open-MigrationGuest web01-new $Uri -Session $Control
    $restore = Open-Restore $destination $state

    Invoke-Precopy $Source -BytesPerSecond 1GB
    Complete-Migration $Source
    @{ Guest = $destination; Restore = $restore }
}

# Begins to copy the memory of the running guest.
function Invoke-Precopy($Source, [long] $BytesPerSecond) {
    $pause = @{ capability = 'pause-before-switchover'; state = $true }
    $null = Invoke-Qmp $Source migrate-set-capabilities @{ capabilities = @($pause) }
    $null = Invoke-Qmp $Source migrate-set-parameters @{ 'max-bandwidth' = $BytesPerSecond }
    $null = Invoke-Qmp $Source migrate @{ uri = $Uri }
    Wait-Migration $Source active, pre-switchover
}

# Waits for the memory to be copied and the guest to stand still, keeps it so, and hands it over.
function Complete-Migration($Source) {
    Wait-Migration $Source pre-switchover
    Start-Sleep -Duration $Downtime
    $null = Invoke-Qmp $Source migrate-continue @{ state = 'pre-switchover' }
    Wait-Migration $Source completed
}

function Invoke-PauseContinue($Source, [bool] $WithKvmTsc, $Watch) {
    $null = Invoke-Qmp $Source stop
    $null = Receive-GuestLog $Source # what is awaited later is from after the resume
    $state = Save-ClockState $Source $WithKvmTsc
    Start-Sleep -Duration $Downtime
    $restore = Open-Restore $Source $state
    if ($Watch) {
        Wait-Armed $Watch $Source
    }
    $null = Invoke-Qmp $Source cont
    @{ Guest = $Source; Restore = $restore }
}

function Invoke-SaveRestore($Source, [bool] $WithKvmTsc) {
    $null = Invoke-Qmp $Source stop
    $state = Save-ClockState $Source $WithKvmTsc
    $null = Invoke-Qmp $Source migrate @{ uri = "exec:cat >$Directory/saved" }
    Wait-Migration $Source completed
    Close-Guest $Source
    Start-Sleep -Duration $Downtime

    $destination = Open-MigrationGuest web01-new "exec:cat $Directory/saved"
    $restore = Open-Restore $destination $state
    Wait-Until 'the destination has read all' { (Invoke-Qmp $destination query-status).status -eq 'paused' }
    $null = Invoke-Qmp $destination cont
    @{ Guest = $destination; Restore = $restore }
}

# --- a run, and what the guest says of it

function Invoke-Run([string] $Mode) {
    $withKvmTsc = $Mode -eq 'With'
    $watch, $told = $null, @()
    $null = New-Item $Directory -ItemType Directory -Force
    try {
        $isNew = -not $Guests
        if ($isNew) {
            Write-Information 'Starting the guest'
            $source = Open-MigrationGuest web01
            Wait-GuestLog $source '^start '
        }
        else {
            $source = $Guests[0]
            $source.Events.Clear()
        }
        $watch = $Mode -eq 'Watched' ? (Open-ClockWatch $Module "$Directory/lines") : $null
        $before = Watch-Guest $source $Image -Before -FromNow:(-not $isNew) # last: the longer ago it is, the less its rates tell of later
        Write-Information "${Scenario}: $(Get-Title $Mode)"
        $migrated = & "Invoke-$Scenario" $source $withKvmTsc $watch
        $guest = $migrated.Guest
        $stopped = Wait-QmpEvent $source STOP
        $resumed = Use-Guest $guest { param($there) Wait-QmpEvent $there RESUME }
        $restored = $migrated.Restore ? ($migrated.Restore | Wait-Job | Receive-Job) : $null
        Write-Information 'The guest was resumed'
        $after = Watch-Guest $guest $Image -FromNow
        if ($watch) {
            Wait-Until 'the watch tells what the pause cost' {
                Assert-Running $watch
                Get-Told $watch
            }
            $told = @(Get-Told $watch)
        }
    }
    finally {
        if ($watch) {
            Close-ClockWatch $watch
        }
        if ($Scenario -ne 'PauseContinue') {
            Close-MigrationGuest
        }
    }
    Write-Information 'Comparing what the guest logged'
    $correction = Get-Correction $restored $told
    $tolerance = Get-Tolerance $correction -OnAnotherHost ([bool] $Session)
    $verdict = Compare-GuestClock $before $after $stopped $resumed @tolerance
    [pscustomobject]@{
        Downtime  = $resumed - $stopped
        Before    = $before
        After     = $after
        Verdict   = $verdict
        Restored  = $restored
        Corrected = $correction
        Told      = $told
        Messages  = @(Select-Message $after.Messages ($verdict.StoppedMonotonic + ($resumed - $stopped) / 2) -Known $before.Messages)
    }
}

# --- the table

function Get-Row($Run) {
    $verdict = $Run.Verdict
    $farthest = $verdict.First.Distance | Sort-Object { [Math]::Abs($_) } | Select-Object -Last 1
    $row = [ordered]@{
        'Guest stood still, s' = '{0:n3}' -f ($Run.Downtime / 1e9)
        'Clock source before, after' = $Run.Before.ClockSource, $Run.After.ClockSource -join ', '
    }
    foreach ($clock in $verdict.Lost.Keys) {
        $row["$clock lost, ms"] = Format-Millisecond $verdict.Lost[$clock]
    }
    $row['TSC lost, ms, per vCPU'] = ($verdict.LostTsc | ForEach-Object { Format-Millisecond $_ }) -join ', '
    $row['TSC offset before, per vCPU'] = $Run.Before.Offsets.Ticks -join ', '
    $row['TSC offset after, per vCPU'] = $Run.After.Offsets.Ticks -join ', '
    $row['First sample after resume'] = $verdict.First.Wrong -contains $true ? "wrong by $(Format-Millisecond $farthest) ms" :
        $Session ? "right to $(Format-Millisecond $farthest) ms" : 'right'
    $row['Uncertainty of the judge, ns'] = '{0:n0}' -f $verdict.KnownTo
    $row['Wrong samples'] = "$($verdict.WrongSamples) of $($verdict.Samples)"
    $row['Times that clocks and TSC parted'] = $verdict.Apart
    $row['Times that a clock went back'] = $verdict.Backwards
    $row['New warnings of the guest'] = $Run.Messages.Count
    $restored = $Run.Restored
    $wasCorrected = $restored -or $Run.Told
    $row['Predicted bound, ns'] = $wasCorrected ? '{0:n0}' -f $Run.Corrected.Bound : $null
    $row['kvmclock residual, ns'] = $wasCorrected ? '{0:n0}' -f $Run.Corrected.Residual : $null
    $row['TSC residual, ticks'] = $restored ? $restored.Vcpus.ResidualTicks -join ', ' : $null
    $row['vCPUs held, ms'] = $restored ? '{0:n1}' -f ($restored.StoppedMicroseconds / 1000) : $null
    $row
}

function Format-Millisecond([decimal] $Nanoseconds) {
    '{0:n3}' -f ($Nanoseconds / 1000000)
}

function Format-Run($Title, $Runs) {
    $columns = [ordered]@{}
    foreach ($name in $Runs.Keys) {
        $columns[$name] = Get-Row $Runs[$name]
    }
    $measures = @($columns[0].Keys).Where({ $measure = $_; @($columns.Values).Where({ $null -ne $_[$measure] }) })
    $rows = foreach ($measure in $measures) {
        $row = [ordered]@{ $Title = $measure }
        foreach ($name in $columns.Keys) {
            $row[$name] = $columns[$name][$measure]
        }
        [pscustomobject] $row
    }
    ($rows | Format-Table -AutoSize | Out-String -Width 160).TrimEnd()
    foreach ($name in $Runs.Keys) {
        $Runs[$name].Messages | ForEach-Object { "$name, new in the guest's log: $_" }
        if ($Runs[$name].Told) {
            ($Runs[$name].Told | Out-String -Width 160).TrimEnd()
        }
    }
}

# What is wrong with how the guest was left, with what was measured.
function Get-Fault($Run) {
    $verdict = $Run.Verdict
    if ($verdict.WrongSamples) {
        $farthest = $verdict.First.Distance | Sort-Object { [Math]::Abs($_) } | Select-Object -Last 1
        "$($verdict.WrongSamples) of $($verdict.Samples) samples are wrong, the first after the resume by $(Format-Millisecond $farthest) ms"
    }
    if ($verdict.First.Count -lt 2) { "$($verdict.First.Count) of its 2 vCPUs have logged a sample since the resume" }
    if ([Math]::Abs($Run.Corrected.Residual) -gt $Run.Corrected.Bound) { "its kvmclock is off by $($Run.Corrected.Residual) ns, more than the predicted $($Run.Corrected.Bound)" }
    if ($verdict.Apart) { "its clocks and its TSC parted $($verdict.Apart) times" }
    if ($verdict.Backwards) { "a clock of its went back $($verdict.Backwards) times" }
    if ($Run.Messages) { "its kernel said: $($Run.Messages -join ' | ')" }
    $before, $after = $Run.Before.Offsets.Ticks, $Run.After.Offsets.Ticks
    if (-not $Session -and (Compare-Object $before $after -SyncWindow 0)) {
        "its TSC offsets were $($before -join ', ') and are $($after -join ', ')"
    }
    if ($Run.Before.ClockSource -ne $Run.After.ClockSource) {
        "its clock source was $($Run.Before.ClockSource) and is $($Run.After.ClockSource)"
    }
}

function Get-Title([string] $Mode) {
    $Mode -eq 'Watched' ? $Mode : "$Mode KvmTsc"
}

try {
    $runs = [ordered]@{}
    foreach ($name in $Run) {
        $runs[(Get-Title $name)] = Invoke-Run $name
    }
}
finally {
    Close-MigrationGuest
    $Session, $Control | Where-Object { $_ } | Remove-PSSession
}
if ($CoursePath) {
    $runs.Keys | ForEach-Object { [pscustomobject]@{ Run = $_; Course = $runs[$_].Verdict.Course } } | ConvertTo-Json -Depth 3 | Set-Content $CoursePath
}
Format-Run "$Scenario$($DestinationHost ? " to $DestinationHost" : ''), guest on $ClockSource" $runs
foreach ($name in 'With KvmTsc', 'Watched' | Where-Object { $runs.Contains($_) }) {
    $faults = @(Get-Fault $runs[$name])
    if ($faults) {
        throw "$name the guest was not left as it should have been: $($faults -join '; ')."
    }
    $name -eq 'Watched' ? 'Watched, the guest lost no time, and noticed nothing.' :
        $Session ? 'With KvmTsc the guest lost no more time than the clocks of both hosts may be apart, and noticed nothing.' :
        'With KvmTsc the guest lost no time, and noticed nothing.'
}
