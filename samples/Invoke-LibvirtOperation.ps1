#Requires -Version 7.6
<#
.SYNOPSIS
Has virsh take a domain's guest away and bring it back, without KvmTsc and with it, and has the guest's own clocks tell what it cost.
.DESCRIPTION
The guest is a Linux whose two vCPUs read their clocks over and over (lab/guest), in a domain as libvirt makes it, AppArmor and sandbox included. Operations:

Suspend      virsh suspend, virsh resume
Save         virsh save, virsh restore
ManagedSave  virsh managedsave, virsh start
Snapshot     virsh snapshot-create-as (internal), virsh snapshot-revert
Migrate      virsh migrate --live qemu+ssh://HOST/system, with -DestinationHost

Runs:

Without  virsh alone
With     by hand: Save-KvmTscState before; the domain comes back --paused; Restore-KvmTscState -AtResume waits while virsh resume is called
Watched  virsh alone, while Watch-KvmClock -Correct runs, on one host
Hook     virsh alone, while service/libvirt-hook is libvirt's hook, on the other host too; the state was saved before

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
$Modules = 'Qemu', 'ClockLog', 'Runs', 'Libvirt' | ForEach-Object { "$PSScriptRoot/QemuMigration/$_.psm1" }
Import-Module $Modules -Verbose:$false
$staged = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
$Module = (Test-Path $staged) ? $staged : 'KvmTsc'
Import-Module $Module -Verbose:$false

if ('Hook' -in $Run -and ($Operation -match 'Suspend|Snapshot')) {
    throw 'libvirt calls no hook for suspend and resume, and none that tells a snapshot from a new start.'
}
if (('Migrate' -in $Operation) -ne [bool] $DestinationHost) {
    throw 'Migrate takes -DestinationHost, and nothing else does.'
}

$Name = 'web01'
$Domain = @{ ClockSource = $ClockSource; WithoutDisk = [bool] $DestinationHost }
$Downtime = [timespan]::FromSeconds($DowntimeSeconds)
$Build = "$PSScriptRoot/../lab/guest/build"
$Image = & $Build
$Hook = "$PSScriptRoot/../service/libvirt-hook"
$ModulePath = Convert-Path "$((Get-Module KvmTsc).ModuleBase)/.."
$Directory = Join-Path ([IO.Path]::GetTempPath()) "Libvirt-$PID"
$HookLog = '/var/log/libvirt/kvmtsc-hook.log'
$States = '/var/lib/kvmtsc/states' # where the hook looks
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

function Wait-Told($Watch, [string] $Kind, [long] $AtLeast = 0) {
    Wait-Until "the watch tells of $Kind" {
        Assert-Running $Watch
        $Watch.Output | Where-Object { $_.Event -eq $Kind -and [long] $_.LostNanoseconds -ge $AtLeast }
    }
}

# What restores by the hook told, where the guest came back: a line of JSON each, among what else is in its log.
function Get-HookResult {
    $read = { param($path) @(Get-Content $path -ErrorAction Ignore) -match '^\{' }
    $Control ? (Invoke-Command $Control $read -ArgumentList $HookLog) : (& $read $HookLog)
}

# The next that is told.
function Wait-HookResult([int] $Told) {
    Wait-Until 'the hook has told what it did' { @(Get-HookResult).Count -gt $Told }
    @(Get-HookResult)[-1] | ConvertFrom-Json
}

# --- the operations: each returns the guest that lives on, how long virsh took, in seconds, and the result of the restore

function Invoke-OnOneHost($Kind, $Mode, $Watch) {
    $command = $Commands[$Kind]
    $state = $Mode -in 'With', 'Hook' ? (Save-KvmTscState $Name) : $null
    if ($Mode -eq 'Hook') {
        Export-KvmTscState "$States/$Name.json" $state -Force
        $told = @(Get-HookResult).Count
    }
    $seconds = Invoke-Virsh $command.Away
    if ($Kind -eq 'Suspend' -and $Watch) {
        Wait-Told $Watch Paused
        Wait-Until 'the watch holds the paused guest' { Test-IsWatched $Guest } # on an emulated host that may take longer than the pause
    }
    Start-Sleep -Duration $Downtime
    if ($Kind -in 'Suspend', 'Snapshot') {
        $null = Receive-GuestLog $Guest # what is awaited later is from after the resume
    }
    $restored = $null
    if ($Mode -eq 'With') {
        if ($Kind -ne 'Suspend') {
            $seconds += Invoke-Virsh ($command.Back + '--paused')
            Connect-Domain $Guest
        }
        $restore = Open-Restore $state
        $seconds += Invoke-Virsh resume, $Name
        $restored = $restore | Wait-Job | Receive-Job
    }
    else {
        $seconds += Invoke-Virsh $command.Back
    }
    Connect-Domain $Guest
    if ($Mode -eq 'Hook') {
        $restored = Wait-HookResult $told
    }
    if ($Kind -eq 'Snapshot') {
        $null = Invoke-Virsh snapshot-delete, $Name, one
    }
    @{ Guest = $Guest; Seconds = $seconds; Restored = $restored }
}

function Invoke-ToAnotherHost($Mode) {
    $to = "qemu+ssh://$DestinationHost/system"
    $state = $Mode -ne 'Without' ? (Save-KvmTscState $Name | Export-KvmTscState "$Directory/$Name.json" -Force -PassThru) : $null
    if ($Mode -eq 'Hook') {
        Copy-Item $state "$States/$Name.json" -ToSession $Control -Force
        $told = @(Get-HookResult).Count
    }
    $null = Invoke-Virsh migrate-setmaxdowntime, $Name, 10000 # an emulated host's network cannot carry what is left in the usual 300 ms
    $seconds = Invoke-Virsh (@('migrate', '--live', '--persistent', '--undefinesource', $Name, $to) + @(if ($Mode -eq 'With') { '--suspend' }))
    $restored = $null
    if ($Mode -eq 'With') {
        $text = Get-Content $state -Raw
        $restore = Invoke-Command $Session -AsJob {
            Set-Content "$using:Directory/$using:Name.json" $using:text
            Import-KvmTscState "$using:Directory/$using:Name.json" | Restore-KvmTscState $using:Name -AtResume
        }
        Wait-Until "$Name is watched" {
            Assert-Running $restore
            Invoke-Command $Control { Test-IsWatched @{ Process = Get-Process -Id (Get-Content "/run/libvirt/qemu/$using:Name.pid") } }
        }
        $seconds += Invoke-Virsh '-c', $to, 'resume', $Name
        $restored = $restore | Wait-Job | Receive-Job
    }
    Invoke-Command $Control { $null = Get-Domain $using:Name }
    if ($Mode -eq 'Hook') {
        $restored = Wait-HookResult $told
    }
    @{ Guest = [pscustomobject]@{ Name = $Name; Session = $Control }; Seconds = $seconds; Restored = $restored }
}

# --- one run

function Invoke-Run($Kind, $Mode) {
    $watch = $Mode -eq 'Watched' ? (Open-ClockWatch $Module "$Directory/lines") : $null
    try {
        $before = Watch-Guest $Guest $Image -Before -FromNow
        Write-Information "${Kind}: $Mode"
        $done = $Kind -eq 'Migrate' ? (Invoke-ToAnotherHost $Mode) : (Invoke-OnOneHost $Kind $Mode -Watch $watch)
        $script:Guest = $done.Guest
        # A snapshot is made in a short pause, which is not what is judged; when it is reverted to, the old process ends without a STOP.
        $stopped = $Kind -eq 'Snapshot' ? $null : (Get-DomainEvent @{ Name = $Name } STOP -Since $before.Host.Real)
        $stopped ??= [decimal] ([DateTimeOffset] $Guest.Process.StartTime).ToUnixTimeMilliseconds() * 1000000
        $resumed = Use-Guest $Guest { param($there, $stopped) Get-DomainEvent $there RESUME -Since $stopped -Wait } -Arguments $stopped
        $after = Watch-Guest $Guest $Image -FromNow
        $told = @()
        if ($watch) {
            Wait-Told $watch Corrected -AtLeast $Downtime.TotalNanoseconds # and not of the pause in which a snapshot is made
            $told = @($watch.Output | Where-Object LostNanoseconds)
        }
    }
    finally {
        if ($watch) { Close-ClockWatch $watch }
    }
    $tolerance = Get-Tolerance (Get-Correction $done.Restored $told) -OnAnotherHost ([bool] $DestinationHost)
    $verdict = Compare-GuestClock $before $after $stopped $resumed @tolerance
    ConvertTo-Row $Kind $Mode -Before $before -After $after -Verdict $verdict -Away ($resumed - $stopped) -Seconds $done.Seconds -Told $told
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
        Warnings          = @(Select-Message $After.Messages ($Verdict.StoppedMonotonic + $Away / 2) -Known $Before.Messages)
        SameOffsets       = -not (Compare-Object $Before.Offsets.Ticks $After.Offsets.Ticks -SyncWindow 0)
        Told              = $Told
    }
}

function Open-NewDomain {
    Write-Information 'Starting the guest'
    $script:Guest = Open-Domain $Name @Domain
    Wait-GuestLog $Guest '^start '
}

function Close-AnyDomain {
    if ($Guest) {
        Use-Guest $Guest { param($there) Close-Domain $there }
    }
    $script:Guest = $null
}

$Guest = $null
$null = New-Item $Directory, $States -ItemType Directory -Force
Initialize-Libvirt $Image
$Session, $Control = $DestinationHost ? (New-PSSession -HostName $DestinationHost, $DestinationHost) : @($null, $null)
try {
    if ('Hook' -in $Run) {
        Add-LibvirtHook $Hook -ModulePath $ModulePath
    }
    if ($Session) {
        Invoke-Command $Session { Import-Module $using:Module }
        Invoke-Command $Control {
            Import-Module $using:Modules
            Import-Module $using:Module
            $null = New-Item $using:Directory, $using:States -ItemType Directory -Force
            Initialize-Libvirt (& $using:Build)
            if ('Hook' -in $using:Run) {
                Add-LibvirtHook $using:Hook -ModulePath $using:ModulePath
            }
        }
    }
    foreach ($kind in $Operation) {
        foreach ($mode in $Run) {
            if (-not $Guest) {
                Open-NewDomain
            }
            Invoke-Run $kind $mode
            if ($DestinationHost) {
                Close-AnyDomain
            }
        }
    }
}
finally {
    Close-AnyDomain
    if ('Hook' -in $Run) {
        Clear-LibvirtHook
    }
    Clear-Libvirt
    Remove-Item $Directory, "$States/$Name.json" -Recurse -ErrorAction Ignore
    if ($Session) {
        Invoke-Command $Control {
            if ('Hook' -in $using:Run) {
                Clear-LibvirtHook
            }
            Clear-Libvirt
            Remove-Item $using:Directory, "$using:States/$using:Name.json" -Recurse -ErrorAction Ignore
        }
        $Session, $Control | Remove-PSSession
    }
}
