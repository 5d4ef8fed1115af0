#Requires -Version 7.6
<#
.SYNOPSIS
Has virsh take a domain's guest away and bring it back, without KvmTsc and with it, and has the guest's own clocks tell what it cost.
.DESCRIPTION
The guest is a Linux whose two vCPUs read their clocks in a tight loop (lab/guest), in a domain as libvirt makes it, AppArmor and sandbox included. Operations:

Suspend      virsh suspend, virsh resume
Save         virsh save, virsh restore
ManagedSave  virsh managedsave, virsh start
Snapshot     virsh snapshot-create-as (internal), virsh snapshot-revert
Migrate      virsh migrate --live qemu+ssh://HOST/system, with -DestinationHost

Runs:

Without  virsh alone
With     by hand: Save-KvmTscState before; the domain comes back --paused; Restore-KvmTscState -AtResume waits while virsh resume is called
Watched  virsh alone, while Watch-KvmClock -Correct runs, on one host
Hook     virsh alone, while /etc/libvirt/hooks/qemu is service/libvirt-hook; the state was saved before

For each it writes an object. On another host the guest is judged by CLOCK_REALTIME of both, and may be off by the predicted bound, 50 us and 20 ppm of the time since.
.EXAMPLE
./Invoke-LibvirtOperation.ps1 Save -Run Without, With, Watched
.EXAMPLE
./Invoke-LibvirtOperation.ps1 Migrate -Run Without, With, Hook -DestinationHost h2
#>
[CmdletBinding()]
param(
    # What virsh does.
    [Parameter(Position = 0)]
    [ValidateSet('Suspend', 'Save', 'ManagedSave', 'Snapshot', 'Migrate')]
    [string[]] $Operation = @('Suspend', 'Save', 'ManagedSave', 'Snapshot'),

    # Which runs of each.
    [ValidateSet('Without', 'With', 'Watched', 'Hook')]
    [string[]] $Run = @('Without', 'With', 'Watched'),

    # What the guest takes its time from.
    [ValidateSet('kvm-clock', 'tsc')]
    [string] $ClockSource = 'kvm-clock',

    # How long the guest is away, at least.
    [ValidateRange(1, 600)]
    [int] $DowntimeSeconds = 5,

    # The host to migrate to: it is reached by SSH, and has the same files at the same paths.
    [string] $DestinationHost
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$Modules = 'Qemu', 'ClockLog', 'Libvirt' | ForEach-Object { "$PSScriptRoot/QemuMigration/$_.psm1" }
Import-Module $Modules -Verbose:$false
$staged = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
$Module = (Test-Path $staged) ? $staged : 'KvmTsc'
Import-Module $Module -Verbose:$false

if (('Migrate' -in $Operation) -ne [bool] $DestinationHost) {
    throw 'Migrate takes -DestinationHost, and nothing else does.'
}

$Name = 'web01'
$Image = & "$PSScriptRoot/../lab/guest/build"
$Directory = Join-Path ([IO.Path]::GetTempPath()) "Libvirt-$PID"
$SecondsBefore = 7 # for the guest's rates, to a ten-millionth
$SecondsAfter = 3
$ReadingNanoseconds = 5000 # that the clocks of one host's guest may be off by beyond what was told
$JudgeNanoseconds = 50000 # that the reading of two hosts' clocks may be off by, and
$JudgePpm = 20 # that the rates of their clocks and TSCs may differ by
$Saved = "/var/lib/libvirt/qemu/save/$Name.saved"

# What takes the guest away, and what brings it back.
$Commands = @{
    Suspend     = @{ Away = 'suspend', $Name; Back = 'resume', $Name }
    Save        = @{ Away = 'save', $Name, $Saved; Back = 'restore', $Saved }
    ManagedSave = @{ Away = 'managedsave', $Name; Back = 'start', $Name }
    Snapshot    = @{ Away = 'snapshot-create-as', $Name, 'one'; Back = 'snapshot-revert', $Name, 'one' }
}

# --- KvmTsc

function Open-Restore($State) {
    $job = Start-ThreadJob {
        Import-Module $using:Module
        Restore-KvmTscState $using:Name $using:State -AtResume
    }
    Wait-Until "$Name is watched" {
        Assert-Running $job
        Test-IsWatched $Guest
    }
    $job
}

function Open-ClockWatch {
    $job = Start-ThreadJob {
        Import-Module $using:Module
        Watch-KvmClock -Correct -Confirm:$false -StatePath "$using:Directory/lines" # what others keep is of other guests
    }
    Wait-Told $job Found
    $job
}

function Wait-Told($Watch, [string] $Event) {
    Wait-Until "the watch tells of $Event" {
        Assert-Running $Watch
        $Watch.Output | Where-Object Event -EQ $Event
    }
}

# What ended too soon says why.
function Assert-Running($Job) {
    if ($Job.State -notin 'NotStarted', 'Running') {
        $null = Receive-Job $Job
    }
}

function Close-Watch($Watch) {
    $Watch | Stop-Job
    $Watch | Receive-Job -ErrorAction Continue | Out-Null
    $Watch | Remove-Job
}

# --- one run

# virsh takes the guest away and brings it back; returned is how long virsh took, in seconds.
function Invoke-Operation($Kind, $Mode, $Watch) {
    $command = $Commands[$Kind]
    $state = $Mode -eq 'With' ? (Save-KvmTscState $Name) : $null
    $seconds = Invoke-Virsh $command.Away
    if ($Kind -eq 'Suspend' -and $Watch) {
        Wait-Told $Watch Paused
        Wait-Until 'the watch holds the paused guest' { Test-IsWatched $Guest } # on an emulated host that may take longer than the pause
    }
    Start-Sleep -Seconds $DowntimeSeconds
    if ($Kind -in 'Suspend', 'Snapshot') {
        $null = Receive-GuestLog $Guest # what is awaited later is from after the resume
    }
    $restore = $null
    if ($Mode -eq 'With') {
        if ($Kind -ne 'Suspend') {
            $seconds += Invoke-Virsh ($command.Back + '--paused')
            Update-Domain $Guest
        }
        $restore = Open-Restore $state
        $seconds += Invoke-Virsh resume, $Name
    }
    else {
        $seconds += Invoke-Virsh $command.Back
    }
    Update-Domain $Guest
    if ($Kind -eq 'Snapshot') {
        $null = Invoke-Virsh snapshot-delete, $Name, one
    }
    @{ Seconds = $seconds; Restored = $restore ? ($restore | Wait-Job | Receive-Job) : $null }
}

function Invoke-Run($Kind, $Mode) {
    $watch = $Mode -eq 'Watched' ? (Open-ClockWatch) : $null
    try {
        $before = Watch-Guest $Guest $SecondsBefore
        $begun = $before.Host.Real
        Write-Information "${Kind}: $Mode"
        $done = Invoke-Operation $Kind $Mode $watch
        $resumed = Get-DomainEvent $Guest RESUME -Since $begun -Wait
        # A process that is new has been started while the guest ran nowhere.
        $stopped = $Kind -eq 'Snapshot' ? $null : (Get-DomainEvent $Guest STOP -Since $begun)
        $stopped ??= [decimal] (([DateTimeOffset] $Guest.Process.StartTime).ToUnixTimeMilliseconds()) * 1000000
        if ($Kind -eq 'Snapshot') {
            $resumed = Get-DomainEvent $Guest RESUME -Since $stopped -Wait
        }
        $after = Watch-Guest $Guest $SecondsAfter
        $told = @()
        if ($watch) {
            Wait-Told $watch Corrected
            $told = @($watch.Output | Where-Object LostNanoseconds)
        }
    }
    finally {
        if ($watch) { Close-Watch $watch }
    }
    $residual = $done.Restored ? $done.Restored.ClockResidualNanoseconds : $told ? $told[-1].ResidualNanoseconds : 0
    $verdict = Compare-GuestClock $before $after $stopped $resumed -ToleranceNanoseconds ([Math]::Abs($residual) + $ReadingNanoseconds)
    ConvertTo-Row $Kind $Mode $before $after $verdict ($resumed - $stopped) $done.Seconds $told
}

function ConvertTo-Row($Kind, $Mode, $Before, $After, $Verdict, $Away, $Seconds, $Told) {
    $farthest = $Verdict.First.Distance | Sort-Object { [Math]::Abs($_) } | Select-Object -Last 1
    [pscustomobject]@{
        PSTypeName        = 'LibvirtOperation'
        Operation         = $Kind
        Run               = $Mode
        VirshSeconds      = [Math]::Round($Seconds, 2)
        AwaySeconds       = [Math]::Round($Away / 1e9, 3)
        LostMilliseconds  = [Math]::Round($Verdict.Lost['CLOCK_REALTIME'] / 1e6, 3)
        TscLostMilliseconds = [Math]::Round($Verdict.LostTsc[0] / 1e6, 3)
        FirstOffBy        = $Verdict.First.Wrong -contains $true ? [Math]::Round($farthest / 1e6, 3) : 0
        FirstSamples      = $Verdict.First.Count
        Samples           = $Verdict.Samples
        WrongSamples      = $Verdict.WrongSamples
        Backwards         = $Verdict.Backwards
        Parted            = $Verdict.Apart
        Warnings          = @(Select-Message ($After.Messages | Where-Object { $_ -notin $Before.Messages }) ($Verdict.StoppedMonotonic + $Away / 2))
        SameOffsets       = -not (Compare-Object $Before.Offsets.Ticks $After.Offsets.Ticks -SyncWindow 0)
        Told              = $Told
    }
}

# What is known of the guest and its host after some seconds of the guest's.
function Watch-Guest($Guest, [int] $Seconds) {
    $earlier = Read-HostClock $Image
    $before = Sync-GuestLog $Guest # lines that it had not written yet when it was stopped among them
    foreach ($thread in 0, 1) {
        Wait-GuestLog $Guest "^second thread=$thread " -Count $Seconds -Skip $before
    }
    $report = Get-GuestReport $Guest
    @{
        Messages    = $report.Messages
        Log         = @(Receive-GuestLog $Guest)
        Offsets     = @(Read-TscOffset $Guest.Process.Id)
        HostEarlier = $earlier
        Host        = Read-HostClock $Image
    }
}

$null = New-Item $Directory -ItemType Directory -Force
Initialize-Libvirt $Image
Write-Information 'Starting the guest'
$Guest = Open-Domain $Name -ClockSource $ClockSource
try {
    Wait-GuestLog $Guest '^start '
    foreach ($kind in $Operation) {
        foreach ($mode in $Run) {
            Invoke-Run $kind $mode
        }
    }
}
finally {
    Close-Domain $Guest
    Remove-Item $Directory -Recurse -ErrorAction Ignore
}
