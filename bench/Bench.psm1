# What the benchmark's scripts share: turns, rows, and VMs of vmm.c.
Set-StrictMode -Version 3.0

$TicksPerSecond = [int] (getconf CLK_TCK)

# Compiles the C programs, once.
function Invoke-Compiler([string] $Directory) {
    $null = New-Item $Directory -ItemType Directory -Force
    $sources = @{ floor = "$PSScriptRoot/floor.c"; vmm = "$PSScriptRoot/vmm.c"; naive = "$PSScriptRoot/../tests/Torture/naive.c" }
    foreach ($name in $sources.Keys) {
        cc -std=gnu17 -O2 -Wall -Wextra -Werror -pthread -o "$Directory/$name" $sources[$name]
    }
}

# Measures several ways to do a thing in turns, each after a rest: by its name, what each turn gave.
function Measure-Turn([Collections.IDictionary] $Way, [int] $Turns, [int] $RestMilliseconds = 0) {
    $taken = @{}
    foreach ($turn in 1..$Turns) {
        foreach ($name in $Way.Keys) {
            Start-Sleep -Milliseconds $RestMilliseconds
            $taken[$name] += @(, (& $Way[$name]))
        }
    }
    $taken
}

# In milliseconds.
function Measure-Time([scriptblock] $Action) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $null = & $Action
    $clock.Elapsed.TotalMilliseconds
}

function Get-Median([double[]] $Value) {
    $sorted = @($Value | Sort-Object)
    ($sorted[($sorted.Count - 1) -shr 1] + $sorted[$sorted.Count -shr 1]) / 2
}

# Adds what was measured of a row to a report, a line of JSON. Parts are what a figure consists of, or what else there is to be known, by name.
function Add-Measured([string] $Report, [string] $Name, [double[]] $Figure, [double[]] $Floor = @(), [Collections.IDictionary] $Rivals = @{}, [Collections.IDictionary] $Parts = @{}) {
    [ordered]@{ Name = $Name; Figure = $Figure; Floor = $Floor; Rivals = $Rivals; Parts = $Parts } | ConvertTo-Json -Depth 4 -Compress | Add-Content $Report
}

# A VMM with idle vCPUs, which has begun.
function Open-VM([string] $Program, [int] $VcpuCount = 2) {
    $start = [Diagnostics.ProcessStartInfo]::new($Program, "$VcpuCount")
    $start.RedirectStandardInput = $start.RedirectStandardOutput = $true
    $process = [Diagnostics.Process]::Start($start)
    if ($process.StandardOutput.ReadLine() -ne 'ready') {
        throw "$Program did not begin."
    }
    $process
}

function Send-Command([Diagnostics.Process] $VM, [string] $Command) {
    $VM.StandardInput.WriteLine($Command)
    $VM.StandardOutput.ReadLine()
}

function Close-VM([Diagnostics.Process[]] $VM) {
    $VM | ForEach-Object {
        $_.Kill()
        $_.WaitForExit()
    }
}

# Runs Watch-KvmClock in a PowerShell of its own. Script gets its events, and has $Log, a file.
function Open-Watch([string] $Log, [string] $Script, [string] $Options = '') {
    $module = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
    Set-Content "$Log.ps1" "param(`$Log) Import-Module '$module'; Watch-KvmClock -Confirm:`$false -StatePath '$Log.states' $Options | ForEach-Object { $Script }"
    Start-Process (Get-Process -Id $PID).Path '-NoProfile', '-NonInteractive', '-File', "$Log.ps1", $Log -PassThru
}

# So many lines of a watch's log, once they are there.
function Wait-Line([string] $Log, [string] $Pattern, [int] $Count) {
    while (($lines = @(@(Get-Content $Log -ErrorAction Ignore) -match $Pattern)).Count -lt $Count) {
        Start-Sleep -Milliseconds 500 # it is looking that takes the time
    }
    $lines
}

function Close-Watch([Diagnostics.Process] $Watch) {
    $Watch.Kill()
    $Watch.WaitForExit()
    # It was killed, and KVM is still traced until somebody ends it.
    Get-ChildItem /sys/kernel/debug/tracing/instances -Filter 'kvmtsc-*' | ForEach-Object { rmdir $_.FullName }
}

# Processor time of a process, in milliseconds: utime and stime of proc_pid_stat(5).
function Get-Cost([Diagnostics.Process] $Process) {
    $fields = (Get-Content "/proc/$($Process.Id)/stat" -Raw).Split(') ')[-1].Split(' ')
    ([long] $fields[11] + [long] $fields[12]) * 1000 / $TicksPerSecond
}
