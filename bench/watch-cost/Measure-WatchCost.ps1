#Requires -Version 7.6
<#
.SYNOPSIS
What a watch costs: while nothing happens, and for each pause that it gives back.
.DESCRIPTION
On a KVM host, as root, with a C compiler: lab/kvmlab exec --cpus 1 --memory 8G -- pwsh -NoProfile -File bench/watch-cost/Measure-WatchCost.ps1

Watch-KvmClock -Correct runs in a PowerShell of its own beside VMs with two idle vCPUs (bench/vmm.c), a process each; one of them is paused again and again, and its VMM
sets kvmclock back as QEMU does. Processor time is what the kernel charged to that PowerShell. How often VMs were stopped while nothing happened is their own loss.
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
    [int[]] $PauseMilliseconds = @(50, 1000)
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$Module = "$PSScriptRoot/../../out/KvmTsc/KvmTsc.psd1"
$Directory = (New-Item "$([IO.Path]::GetTempPath())/watch-cost-$PID" -ItemType Directory).FullName
$TicksPerSecond = [int] (getconf CLK_TCK)

function Open-VM {
    $start = [Diagnostics.ProcessStartInfo]::new("$Directory/vmm", '2')
    $start.RedirectStandardInput = $start.RedirectStandardOutput = $true
    $process = [Diagnostics.Process]::Start($start)
    $null = $process.StandardOutput.ReadLine()
    $process
}

function Send-Command([Diagnostics.Process] $VM, [string] $Command) {
    $VM.StandardInput.WriteLine($Command)
    $null = $VM.StandardOutput.ReadLine()
}

function Open-Watch([string] $Log) {
    $watch = "Import-Module '$Module'; Watch-KvmClock -Correct -Confirm:`$false -StatePath '$Directory/states' | ForEach-Object { `$_ | ConvertTo-Json -Compress >>'$Log' }"
    Start-Process (Get-Process -Id $PID).Path '-NoProfile', '-NonInteractive', '-Command', $watch -PassThru
}

# Processor time of a process, in milliseconds: utime and stime of proc_pid_stat(5).
function Get-Cost([Diagnostics.Process] $Process) {
    $fields = (Get-Content "/proc/$($Process.Id)/stat" -Raw).Split(') ')[-1].Split(' ')
    ([long] $fields[11] + [long] $fields[12]) * 1000 / $TicksPerSecond
}

function Get-Told([string] $Log, [string] $Name) {
    Get-Content $Log -ErrorAction Ignore | ConvertFrom-Json | Where-Object Event -EQ $Name
}

function Wait-Told([string] $Log, [string] $Name, [int] $Count) {
    while (@(Get-Told $Log $Name).Count -lt $Count) {
        Start-Sleep -Milliseconds 500
    }
}

function Measure-Pause([Diagnostics.Process] $VM, [Diagnostics.Process] $Watch, [string] $Log, [int] $Milliseconds, [int] $PauseCount) {
    $before = Get-Cost $Watch
    $known = @(Get-Told $Log Corrected).Count
    foreach ($i in 1..$PauseCount) {
        Send-Command $VM pause
        Start-Sleep -Milliseconds $Milliseconds
        Send-Command $VM cont
        Wait-Told $Log -Name Corrected -Count ($known + $i)
    }
    $held = @(Get-Told $Log Corrected) | Select-Object -Skip $known | ForEach-Object { $_.StoppedMicroseconds / 1000 } | Sort-Object
    [Math]::Round(((Get-Cost $Watch) - $before) / $PauseCount, 1), [Math]::Round(@($held)[$PauseCount / 2], 1)
}

function Measure-Watch([int] $Count, [int] $IdleSeconds, [int] $PauseCount, [int[]] $PauseMilliseconds) {
    $log = "$Directory/$Count.log"
    $vms = @(1..$Count | ForEach-Object { Open-VM })
    try {
        $watch = Open-Watch $log
        Wait-Told $log -Name Found -Count $Count
        Start-Sleep -Seconds 5
        $start = Get-Cost $watch
        $events = @(Get-Content $log).Count
        Start-Sleep -Seconds $IdleSeconds
        $idle = (Get-Cost $watch) - $start
        $result = [ordered]@{
            VMs                = $Count
            'Start (ms)'       = $start
            'Idle (ms/min)'    = $idle * 60 / $IdleSeconds
            'Events while idle' = @(Get-Content $log).Count - $events
        }
        foreach ($milliseconds in $PauseMilliseconds) {
            $result["$milliseconds ms pause (ms)"], $result["held (ms), $milliseconds"] = Measure-Pause $vms[0] $watch -Log $log -Milliseconds $milliseconds -PauseCount $PauseCount
        }
        [pscustomobject] $result
    }
    finally {
        $watch, $vms | ForEach-Object { $_ } | ForEach-Object { $_.Kill() }
    }
}

try {
    cc -std=gnu17 -O2 -Wall -Wextra -Werror -pthread -o "$Directory/vmm" "$PSScriptRoot/../vmm.c"
    $VMCount | ForEach-Object { Measure-Watch $_ -IdleSeconds $IdleSeconds -PauseCount $PauseCount -PauseMilliseconds $PauseMilliseconds } | Format-Table -AutoSize -Wrap | Out-String -Width 200
}
finally {
    Remove-Item $Directory -Recurse
}
