#Requires -Version 7.6
# Judges a guest's clocks by what the guest logged (lab/guest/clocklog.c). Guest and host read one TSC, the guest's off by the offset that
# debugfs shows; so each of the guest's readings has its place on the host's time line, to fractions of a microsecond.

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$Clocks = [ordered]@{ real = 'CLOCK_REALTIME'; mono = 'CLOCK_MONOTONIC'; boot = 'CLOCK_BOOTTIME' }
$SamplePattern = [regex] ('thread=(?<thread>\d+) \S+ \S+ tsc=(?<t0>\d+) real=(?<real>\d+) tsc=(?<t1>\d+) mono=(?<mono>\d+) ' +
    'tsc=(?<t2>\d+) boot=(?<boot>\d+) tsc=(?<t3>\d+)')
$TwoTo64 = 18446744073709551616d
$ToleranceNanoseconds = 5000d
$RateTolerance = 0.0000002d # of the time since the line was measured

<#
.SYNOPSIS
The host's clocks, read together.
#>
function Read-HostClock([Parameter(Mandatory)] [string] $Image) {
    $line = & (Join-Path $Image clocklog) host
    if ("$line" -notmatch 'tsc=(\d+) real=(\d+) raw=(\d+) mono=\d+ tsc=(\d+)') {
        throw "clocklog host said: $line"
    }
    [pscustomobject]@{
        Tsc  = ([decimal] $Matches[1] + [decimal] $Matches[4]) / 2
        Real = [decimal] $Matches[2]
        Raw  = [decimal] $Matches[3]
    }
}

<#
.SYNOPSIS
The TSC offset of each vCPU of a process's VM, and its scaling, as debugfs shows them.
#>
function Read-TscOffset([Parameter(Mandatory)] [int] $ProcessId) {
    $vcpus = Get-ChildItem "/sys/kernel/debug/kvm/$ProcessId-*/vcpu*" -Directory | Sort-Object { [int] $_.Name.Substring(4) }
    if (-not $vcpus) {
        throw "debugfs shows no VM of process $ProcessId."
    }
    foreach ($vcpu in $vcpus) {
        $ratio = "$vcpu/tsc-scaling-ratio"
        [pscustomobject]@{
            VcpuId = [int] $vcpu.Name.Substring(4)
            Ticks  = [decimal] (Get-Content "$vcpu/tsc-offset")
            Ratio  = (Test-Path $ratio) ? (Read-ScalingRatio $ratio) : 1d
        }
    }
}

function Read-ScalingRatio([string] $File) {
    [decimal] (Get-Content $File) / [decimal] [Math]::Pow(2, (Get-Content "$File-frac-bits"))
}

# The samples in lines of the log, with the host's TSC before and after each reading.
function ConvertFrom-ClockLog([string[]] $Line, $Offset) {
    foreach ($text in $Line) {
        foreach ($match in $SamplePattern.Matches($text)) {
            $groups = $match.Groups
            [pscustomobject]@{
                Kind     = $text.Substring(0, $text.IndexOf(' '))
                Thread   = [int] $groups['thread'].Value
                Tsc      = [decimal[]] $(foreach ($name in 't0', 't1', 't2', 't3') {
                        (([decimal] $groups[$name].Value - $Offset.Ticks) % $TwoTo64 + $TwoTo64) % $TwoTo64 / $Offset.Ratio
                    })
                real     = [decimal] $groups['real'].Value
                mono     = [decimal] $groups['mono'].Value
                boot     = [decimal] $groups['boot'].Value
                Distance = 0d
                Wrong    = $false
            }
        }
    }
}

# The line on which the guest's clocks run: where they stood at a moment, and what each gains with each tick of the host's TSC.
function Measure-ClockLine($Sample) {
    $seconds = @($Sample).Where({ $_.Kind -eq 'second' })
    $narrow = ($seconds | ForEach-Object { $_.Tsc[3] - $_.Tsc[0] } | Measure-Object -Minimum).Minimum * 2
    $tight = @($seconds.Where({ $_.Tsc[3] - $_.Tsc[0] -le $narrow }))
    $first, $last = $tight[0, -1]
    $line = [ordered]@{}
    $index = 0
    foreach ($clock in $Clocks.Keys) {
        $from = ($first.Tsc[$index] + $first.Tsc[$index + 1]) / 2
        $to = ($last.Tsc[$index] + $last.Tsc[$index + 1]) / 2
        $line[$clock] = [pscustomobject]@{
            Tsc                = $to
            Value              = $last.$clock
            NanosecondsPerTick = ($last.$clock - $first.$clock) / ($to - $from)
        }
        $index++
    }
    $line
}

# Finds how far the sample's farthest reading is from the line, in ns, and whether that is too far. A reading is on the line if it may
# have been taken while the line passed through it.
function Set-Verdict($Line, $Sample) {
    $index = 0
    foreach ($clock in $Line.Keys) {
        $point = $Line[$clock]
        $value = $Sample.$clock - $point.Value
        $earliest = ($Sample.Tsc[$index] - $point.Tsc) * $point.NanosecondsPerTick
        $latest = ($Sample.Tsc[++$index] - $point.Tsc) * $point.NanosecondsPerTick
        $distance = $value -lt $earliest ? $value - $earliest : $value -gt $latest ? $value - $latest : 0d
        if ([Math]::Abs($distance) -gt [Math]::Abs($Sample.Distance)) {
            $Sample.Distance = $distance
        }
    }
    $Sample.Wrong = [Math]::Abs($Sample.Distance) -gt $ToleranceNanoseconds + [Math]::Abs($earliest) * $RateTolerance
}

# What each of the guest's clocks lost against the host's between two of the guest's samples, in ns.
function Measure-LostTime($From, $To, $HostFrom, $HostTo) {
    $lost = [ordered]@{}
    $index = 0
    foreach ($clock in $Clocks.Keys) {
        $hostClock = $clock -eq 'real' ? 'Real' : 'Raw'
        $rate = ($HostTo.$hostClock - $HostFrom.$hostClock) / ($HostTo.Tsc - $HostFrom.Tsc)
        $ticks = ($To.Tsc[$index] + $To.Tsc[$index + 1] - $From.Tsc[$index] - $From.Tsc[$index + 1]) / 2
        $lost[$Clocks[$clock]] = $ticks * $rate - ($To.$clock - $From.$clock)
        $index++
    }
    $lost
}

<#
.SYNOPSIS
Compares what a guest logged after it was resumed with what it logged before it was stopped.
.DESCRIPTION
Before and After each have the Log, the Offsets of the vCPUs and the Host's clocks, read at about one time. Stopped and Resumed are in ns of
the host's CLOCK_REALTIME; the guest executed nothing in between.
#>
function Compare-GuestClock {
    param(
        [Parameter(Mandatory)] $Before,
        [Parameter(Mandatory)] $After,
        [Parameter(Mandatory)] [decimal] $Stopped,
        [Parameter(Mandatory)] [decimal] $Resumed
    )
    $rate = ($After.Host.Real - $Before.Host.Real) / ($After.Host.Tsc - $Before.Host.Tsc)
    $stoppedAt, $resumedAt = $Stopped, $Resumed | ForEach-Object { $Before.Host.Tsc + ($_ - $Before.Host.Real) / $rate }

    $old = @(ConvertFrom-ClockLog $Before.Log $Before.Offsets[0])
    $line = Measure-ClockLine $old
    $new = @(ConvertFrom-ClockLog $After.Log $After.Offsets[0])
    foreach ($sample in $new) {
        Set-Verdict $line $sample
    }
    # A sample that seems to be from when the guest stood still is one that a later change of the offset has moved there.
    $lived = $new.Where({ $_.Tsc[3] -ge $resumedAt })
    $moved = $new.Where({ $_.Tsc[0] -gt $stoppedAt -and $_.Tsc[3] -lt $resumedAt })
    $first = foreach ($thread in $lived.Thread | Sort-Object -Unique) {
        $lived.Where({ $_.Thread -eq $thread }, 'First')
    }
    $from, $to = $old, $lived | ForEach-Object { $_.Where({ $_.Kind -eq 'second' }, 'Last') }
    $lostTicks = foreach ($vcpu in 0..($Before.Offsets.Count - 1)) {
        $Before.Offsets[$vcpu].Ticks - $After.Offsets[$vcpu].Ticks
    }
    [pscustomobject]@{
        Lost         = Measure-LostTime -From $from -To $to -HostFrom $Before.Host -HostTo $After.Host
        LostTsc      = @($lostTicks | ForEach-Object { $_ * $rate })
        First        = @($first)
        Samples      = $lived.Count + $moved.Count
        WrongSamples = $lived.Where({ $_.Wrong }).Count + $moved.Count
        Backwards    = @($After.Log -match '^back ').Count
        Apart        = @($After.Log -match '^apart ').Count
    }
}

Export-ModuleMember Read-HostClock, Read-TscOffset, Compare-GuestClock
