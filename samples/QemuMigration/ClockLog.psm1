#Requires -Version 7.6
# Judges a guest's clocks by what the guest logged (lab/guest/clocklog.c). Guest and host read one TSC, the guest's off by the offset that
# debugfs shows; so each of the guest's readings has its place on the host's time line, to fractions of a microsecond. Another host's time line
# is laid on it by CLOCK_REALTIME of both, and so is only as good as these agree.

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$Clocks = [ordered]@{ real = 'CLOCK_REALTIME'; mono = 'CLOCK_MONOTONIC'; boot = 'CLOCK_BOOTTIME' }
$SamplePattern = [regex] ('thread=(?<thread>\d+) tsc=(?<tsc>\d+) real=(?<real>\d+) (?<ticks>[+-]\d+) mono=(?<mono>\d+) (?<ticks>[+-]\d+) ' +
    'boot=(?<boot>\d+) (?<ticks>[+-]\d+)')
$TwoTo64 = 18446744073709551616d

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

# The samples in lines of the log, with the host's TSC before and after each reading, as the time line has it.
function ConvertFrom-ClockLog([string[]] $Line, $Offset, $Place) {
    foreach ($text in $Line) {
        foreach ($match in $SamplePattern.Matches($text)) {
            $groups = $match.Groups
            $guestTsc = [decimal] $groups['tsc'].Value
            [pscustomobject]@{
                Kind     = $text.Substring(0, $text.IndexOf(' '))
                Thread   = [int] $groups['thread'].Value
                Tsc      = [decimal[]] $(foreach ($ticks in @(0) + $groups['ticks'].Captures.Value) {
                        $guestTsc += [decimal] $ticks
                        $hostTsc = (($guestTsc - $Offset.Ticks) % $TwoTo64 + $TwoTo64) % $TwoTo64 / $Offset.Ratio
                        $Place.To + ($hostTsc - $Place.From) * $Place.Scale
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

# The line on which the guest's clocks run: where they stood at a moment, and what each gains with each tick of the host's TSC; and between which lines that is, as seen from later:
# all that is known of a reading is that it was taken at some moment between two of the TSC.
function Measure-ClockLine($Sample, [decimal] $Later) {
    $seconds = @($Sample).Where({ $_.Kind -eq 'second' })
    $narrow = ($seconds | ForEach-Object { $_.Tsc[3] - $_.Tsc[0] } | Measure-Object -Minimum).Minimum * 2
    $tight = @($seconds.Where({ $_.Tsc[3] - $_.Tsc[0] -le $narrow }))
    $first, $last = $tight[0, -1]
    $third = [Math]::Max(1, [Math]::Floor($seconds.Count / 3))
    $ends = @{ Early = $seconds[0..($third - 1)]; Late = $seconds[(-$third)..-1]; Later = $Later }
    $line = [ordered]@{}
    $index = 0
    foreach ($clock in $Clocks.Keys) {
        $from = ($first.Tsc[$index] + $first.Tsc[$index + 1]) / 2
        $to = ($last.Tsc[$index] + $last.Tsc[$index + 1]) / 2
        $line[$clock] = [pscustomobject]@{
            Tsc                = $to
            Value              = $last.$clock
            NanosecondsPerTick = ($last.$clock - $first.$clock) / ($to - $from)
            Lowest             = Find-Extreme @ends -Clock $clock -Index $index -Sign -1
            Highest            = Find-Extreme @ends -Clock $clock -Index $index -Sign 1
        }
        $index++
    }
    $line
}

# The line beyond which no other is that passes through an early and a late reading: the steepest one passes through the early one as late, and through the late one as early as
# may be. Of those of all pairs of readings the one that is the least far out later.
function Find-Extreme($Early, $Late, [string] $Clock, [int] $Index, [decimal] $Later, [int] $Sign) {
    $begin, $end = $Sign -gt 0 ? ($Index + 1), $Index : $Index, ($Index + 1)
    $least = $null
    foreach ($one in $Early) {
        foreach ($other in $Late) {
            $ticks = $other.Tsc[$end] - $one.Tsc[$begin]
            if ($ticks -le 0) {
                continue
            }
            $rate = ($other.$Clock - $one.$Clock) / $ticks
            $value = $other.$Clock + ($Later - $other.Tsc[$end]) * $rate
            if (-not $least -or ($value - $least.Value) * $Sign -lt 0) {
                $least = [pscustomobject]@{ Tsc = $Later; Value = $value; NanosecondsPerTick = $rate }
            }
        }
    }
    $least
}

# Finds how far the sample's farthest reading is from where the line may be, in ns, and whether that is too far. A reading is on the line if it
# may have been taken while the line passed through it.
function Measure-Distance($Line, $Sample, [decimal] $ToleranceNanoseconds, [decimal] $TolerancePpm) {
    $index = 0
    foreach ($clock in $Line.Keys) {
        $point = $Line[$clock]
        $value = $Sample.$clock
        $since = ($Sample.Tsc[$index] - $point.Tsc) * $point.NanosecondsPerTick
        $least = $point.Lowest.Value + ($Sample.Tsc[$index] - $point.Lowest.Tsc) * $point.Lowest.NanosecondsPerTick
        $most = $point.Highest.Value + ($Sample.Tsc[++$index] - $point.Highest.Tsc) * $point.Highest.NanosecondsPerTick
        $distance = $value -lt $least ? $value - $least : $value -gt $most ? $value - $most : 0d
        if ([Math]::Abs($distance) -gt [Math]::Abs($Sample.Distance)) {
            $Sample.Distance = $distance
        }
    }
    $Sample.Wrong = [Math]::Abs($Sample.Distance) -gt $ToleranceNanoseconds + [Math]::Abs($since) * $TolerancePpm / 1000000
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

# Whether a clock and the TSC parted by more than the tolerance and what the restore said that it left. The guest takes the rate between them for what it was before, and tolerates
# 2 ppm. A line without both of its samples tells nothing: whoever wrote it was ended meanwhile, as the process of a snapshot is that is reverted to.
function Test-Apart([string] $Line, [decimal] $TolerancePpm, [decimal] $ToldNanoseconds) {
    if ($Line -notmatch '^apart (?<clock>\w+) (?<by>-?\d+) ') {
        return $false
    }
    $passed = @([regex]::Matches($Line, " $($Matches.clock)=(\d+)").ForEach({ [decimal] $_.Groups[1].Value }))
    $passed.Count -eq 2 -and [Math]::Abs([decimal] $Matches.by) -gt 2000 + $ToldNanoseconds + ($passed[1] - $passed[0]) * $TolerancePpm / 1000000
}

# How one of a host's clocks goes, in ns per tick of its TSC, by the two readings that a witness has.
function Measure-HostRate($Witness, [string] $Clock) {
    ($Witness.Host.$Clock - $Witness.HostEarlier.$Clock) / ($Witness.Host.Tsc - $Witness.HostEarlier.Tsc)
}

# Where the TSC readings and the clocks of the host of After are on the time line of the host of Before.
function Find-Place($Before, $After, [bool] $OnAnotherHost) {
    $from = $After.Host
    if (-not $OnAnotherHost) {
        return @{ From = $from.Tsc; To = $from.Tsc; Scale = 1d; Host = $from }
    }
    $rate = Measure-HostRate $Before Real
    $to = $Before.Host.Tsc + ($from.Real - $Before.Host.Real) / $rate
    $raw = $Before.Host.Raw + ($to - $Before.Host.Tsc) * (Measure-HostRate $Before Raw)
    @{
        From  = $from.Tsc
        To    = $to
        Scale = (Measure-HostRate $After Real) / $rate
        Host  = [pscustomobject]@{ Tsc = $to; Real = $from.Real; Raw = $raw }
    }
}

<#
.SYNOPSIS
Compares what a guest logged after it was resumed with what it logged before it was stopped.
.DESCRIPTION
Before and After each have the Log, the Offsets of the vCPUs and the Host's clocks, read at about one time, and, on two hosts, the Host's clocks
some seconds earlier (HostEarlier). Stopped and Resumed are in ns of the hosts' CLOCK_REALTIME; the guest executed nothing in between. A sample is
wrong that is off by more than the tolerance: some ns, and some ppm of the time since Before. On another host the guest's clocks and its TSC
may also go at rates that differ by so many ppm more than they did before: the hosts' TSC frequencies are known to a few.
#>
function Compare-GuestClock {
    param(
        [Parameter(Mandatory)] $Before,
        [Parameter(Mandatory)] $After,
        [Parameter(Mandatory)] [decimal] $Stopped,
        [Parameter(Mandatory)] [decimal] $Resumed,
        [switch] $OnAnotherHost,
        [decimal] $ToleranceNanoseconds = 5000,
        [decimal] $TolerancePpm = 0.2,
        # By how much its kvmclock was said to be off since: its samples may be off by that too, and it parted from the TSC by that.
        [decimal] $ToldNanoseconds = 0
    )
    $place = Find-Place -Before $Before -After $After -OnAnotherHost $OnAnotherHost
    $rate = ($place.Host.Real - $Before.Host.Real) / ($place.Host.Tsc - $Before.Host.Tsc)
    $stoppedAt, $resumedAt = $Stopped, $Resumed | ForEach-Object { $Before.Host.Tsc + ($_ - $Before.Host.Real) / $rate }

    $old = @(ConvertFrom-ClockLog -Line $Before.Log -Offset $Before.Offsets[0] -Place @{ From = 0d; To = 0d; Scale = 1d })
    $line = Measure-ClockLine $old -Later $resumedAt
    $new = @(ConvertFrom-ClockLog -Line $After.Log -Offset $After.Offsets[0] -Place $place)
    foreach ($sample in $new) {
        Measure-Distance -Line $line -Sample $sample -ToleranceNanoseconds ($ToleranceNanoseconds + $ToldNanoseconds) -TolerancePpm $TolerancePpm
    }
    # A sample that seems to be from when the guest stood still is one that a later change of the offset has moved there.
    $lived = $new.Where({ $_.Tsc[3] -ge $resumedAt })
    $moved = $new.Where({ $_.Tsc[0] -gt $stoppedAt -and $_.Tsc[3] -lt $resumedAt })
    $first = foreach ($thread in $lived.Thread | Sort-Object -Unique) {
        $lived.Where({ $_.Thread -eq $thread }, 'First')
    }
    $from, $to = $old, $lived | ForEach-Object { $_.Where({ $_.Kind -eq 'second' }, 'Last') }
    $lostTicks = foreach ($vcpu in 0..($Before.Offsets.Count - 1)) {
        $Before.Offsets[$vcpu].Ticks + $place.To - $After.Offsets[$vcpu].Ticks - $place.From
    }
    [pscustomobject]@{
        Lost         = Measure-LostTime -From $from -To $to -HostFrom $Before.Host -HostTo $place.Host
        LostTsc      = @($lostTicks | ForEach-Object { $_ * $rate })
        First        = @($first)
        Samples      = $lived.Count + $moved.Count
        WrongSamples = $lived.Where({ $_.Wrong }).Count + $moved.Count
        Backwards    = @($After.Log -match '^back ').Count
        Apart        = @($After.Log -match '^apart ' | Where-Object { Test-Apart -Line $_ -TolerancePpm $TolerancePpm -ToldNanoseconds $ToldNanoseconds }).Count

        # By how much CLOCK_REALTIME was off, in ns, at seconds since it was stopped.
        Course       = @(foreach ($sample in @($old) + $lived | Where-Object { $_.Kind -eq 'second' -and $_.Thread -eq 0 }) {
                $tsc = ($sample.Tsc[0] + $sample.Tsc[1]) / 2
                [pscustomobject]@{
                    Seconds     = ($tsc - $stoppedAt) * $rate / 1000000000
                    Nanoseconds = $sample.real - $line.real.Value - ($tsc - $line.real.Tsc) * $line.real.NanosecondsPerTick
                }
            })

        # To how much what the clocks should be is known when the guest is resumed, in ns.
        KnownTo      = ($line.Values | ForEach-Object { $_.Highest.Value - $_.Lowest.Value } | Measure-Object -Maximum).Maximum

        # What CLOCK_MONOTONIC of the guest was when it was stopped.
        StoppedMonotonic = $line.mono.Value + ($stoppedAt - $line.mono.Tsc) * $line.mono.NanosecondsPerTick
    }
}

<#
.SYNOPSIS
What a guest's kernel said that may be about clocks, and had not said before.
.DESCRIPTION
A vCPU that its host has left waiting for some seconds is a lockup to it, as a jump of its clock is. The jump's has the pause within it, and with that the pause's middle, in ns of
the guest's CLOCK_MONOTONIC. Reports of others are left out, whole: their lines come within two seconds of one another, or, where the host leaves the vCPU waiting again, are of the
kind that follows in such a report. Its first line may have been there before.
#>
function Select-Message([string[]] $Message, [Parameter(Mandatory)] [decimal] $PauseNanoseconds, [string[]] $Known = @()) {
    $lockupSecond = 1073741824d # which has 2^30 ns; one more may have begun
    $betweenLines = 2000000000d
    $following = '^log 4 \d+ (Modules linked in:|CPU: \d|Hardware name:|RIP: |Code: |R[A-Z\d]{2}: |[FC]S: |CR2: |DR\d: |Call Trace:| )'
    $passedUntil = -1d
    foreach ($line in $Message) {
        $now = [decimal] $line.Split(' ')[2] * 1000
        $isOther = $line -match 'soft lockup .* stuck for (?<seconds>\d+)s' -and
            -not ($now - ([decimal] $Matches.seconds + 1) * $lockupSecond -lt $PauseNanoseconds -and $now -gt $PauseNanoseconds)
        $isOfOther = $passedUntil -ge 0 -and $line -notmatch 'soft lockup' -and ($now -le $passedUntil -or $line -cmatch $following)
        $passedUntil = $isOther -or $isOfOther ? $now + $betweenLines : -1d
        if ($passedUntil -lt 0 -and $line -notin $Known) {
            $line
        }
    }
}

Export-ModuleMember Read-HostClock, Read-TscOffset, Compare-GuestClock, Select-Message
