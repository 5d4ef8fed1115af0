#Requires -Version 7.6
<#
.SYNOPSIS
What a watch costs: at its start, while nothing happens, for each pause that it gives back, and what it adds to that which VMMs do.
.DESCRIPTION
On a KVM host, as root, with a C compiler: lab/kvmlab exec --cpus 1 --memory 8G -- pwsh -NoProfile -File bench/watch-cost/Measure-WatchCost.ps1

Watch-KvmClock -Correct runs in a PowerShell of its own beside VMs with two idle vCPUs (bench/vmm.c), a process each; one of them is paused again and again, and its VMM
sets kvmclock back as QEMU does. Processor time is what the kernel charged to that PowerShell. What VMs lost is told by their own kvmclock, read by their VMM.

What it adds to an event is the difference between medians that the VMM takes of its own ioctls, without a watch and with one, in turns: of KVM_SET_CLOCK, of IA32_TSC by
KVM_SET_MSRS, and of a KVM_RUN that ends with a port's access, as all have that a VMM answers.
#>
[CmdletBinding()]
param(
    # How many VMs.
    [int[]] $VMCount = @(1, 50, 200),

    # For how long nothing happens.
    [int] $IdleSeconds = 60,

    # How often the one is paused.
    [int] $PauseCount = 20,

    # For how long each time: one is short enough to be seen too late, one is not.
    [int[]] $PauseMilliseconds = @(50, 1000),

    # How often the ioctls are timed without a watch and with one.
    [int] $Turns = 3
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/../Bench.psm1"
$Directory = (New-Item "$([IO.Path]::GetTempPath())/watch-cost-$PID" -ItemType Directory).FullName

$Told = '$_ | ConvertTo-Json -Compress >>$Log'

function Get-Told([string] $Log, [string] $Name) {
    Get-Content $Log -ErrorAction Ignore | ConvertFrom-Json | Where-Object Event -EQ $Name
}

# Which costs less than Get-Told.
function Wait-Told([string] $Log, [string] $Name, [int] $Count) {
    $null = Wait-Line $Log "`"Event`":`"$Name`"" $Count
}

function Measure-Pause([Diagnostics.Process] $VM, [Diagnostics.Process] $Watch, [string] $Log, [int] $Milliseconds, [int] $PauseCount) {
    $before = Get-Cost $Watch
    $known = @(Get-Told $Log Corrected).Count
    foreach ($i in 1..$PauseCount) {
        $null = Send-Command $VM pause
        Start-Sleep -Milliseconds $Milliseconds
        $null = Send-Command $VM cont
        Wait-Told $Log -Name Corrected -Count ($known + $i)
    }
    $held = @(Get-Told $Log Corrected) | Select-Object -Skip $known | ForEach-Object { $_.StoppedMicroseconds / 1000 } | Sort-Object
    [Math]::Round(((Get-Cost $Watch) - $before) / $PauseCount, 1), [Math]::Round(@($held)[$PauseCount / 2], 1)
}

# Waits until a watch knows all VMs, and has nothing more to do. Returns the seconds until it knew them.
function Wait-Watch([string] $Log, [int] $Count) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    Wait-Told $Log -Name Found -Count $Count
    $clock.Elapsed.TotalSeconds
    Start-Sleep -Seconds 5
}

# The ioctls of a VMM without a watch and with one, in turns, in nanoseconds.
function Measure-Ioctl([Diagnostics.Process] $VM, [int] $Count, [int] $Turns) {
    $names = 'KVM_SET_CLOCK', 'KVM_SET_MSRS', 'KVM_RUN'
    $taken = @{ $false = @(); $true = @() }
    foreach ($turn in 1..$Turns) {
        $taken[$false] += , [double[]] (Send-Command $VM time).Split(' ')
        $log = "$Directory/$Count-$turn.log"
        $watch = Open-Watch $log $Told -Options '-Correct'
        try {
            $null = Wait-Watch $log $Count
            $taken[$true] += , [double[]] (Send-Command $VM time).Split(' ')
        }
        finally {
            Close-Watch $watch
        }
    }
    foreach ($i in 0..2) {
        $without, $with = $false, $true | ForEach-Object { , @($taken[$_] | ForEach-Object { $_[$i] } | Sort-Object) }
        "$($names[$i]) (ns)", "$(Get-Median $without) ($without) without, $(Get-Median $with) ($with) with: $((Get-Median $with) - (Get-Median $without))"
    }
}

function Measure-Watch([int] $Count, [int] $IdleSeconds, [int] $PauseCount, [int[]] $PauseMilliseconds, [int] $Turns) {
    $log = "$Directory/$Count.log"
    $watch = $null
    $vms = @(1..$Count | ForEach-Object { Open-VM "$Directory/vmm" })
    try {
        $watch = Open-Watch $log $Told -Options '-Correct'
        $seconds = Wait-Watch $log $Count
        $start = Get-Cost $watch
        $events = @(Get-Content $log).Count
        Start-Sleep -Seconds $IdleSeconds
        $idle = (Get-Cost $watch) - $start
        $result = [ordered]@{
            'VMs'               = $Count
            'Start, CPU (ms)'   = $start
            'Start (s)'         = [Math]::Round($seconds, 1)
            'Idle (ms/min)'     = $idle * 60 / $IdleSeconds
            'Events while idle' = @(Get-Content $log).Count - $events
        }
        foreach ($milliseconds in $PauseMilliseconds) {
            $result["$milliseconds ms pause, CPU (ms)"], $result["$milliseconds ms pause, held (ms)"] =
                Measure-Pause $vms[0] $watch -Log $log -Milliseconds $milliseconds -PauseCount $PauseCount
        }
        $lost = @($vms | ForEach-Object { [Math]::Abs([double] (Send-Command $_ lost)) / 1000 })
        $result['The paused VM lost (us)'] = [Math]::Round($lost[0], 1)
        if ($Count -gt 1) {
            $result['Any other lost, at most (us)'] = [Math]::Round(($lost | Select-Object -Skip 1 | Measure-Object -Maximum).Maximum, 1)
        }
        Close-Watch $watch
        $added = @(Measure-Ioctl $vms[0] -Count $Count -Turns $Turns)
        for ($i = 0; $i -lt $added.Count; $i += 2) {
            $result[$added[$i]] = $added[$i + 1]
        }
        [pscustomobject] $result
    }
    finally {
        @($watch) + $vms | Where-Object { $_ } | ForEach-Object { $_.Kill() }
    }
}

try {
    Invoke-Compiler $Directory
    $VMCount | ForEach-Object { Measure-Watch $_ -IdleSeconds $IdleSeconds -PauseCount $PauseCount -PauseMilliseconds $PauseMilliseconds -Turns $Turns } | Format-List
}
finally {
    Remove-Item $Directory -Recurse
}
