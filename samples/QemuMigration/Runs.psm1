#Requires -Version 7.6
# What the samples that take a guest away and bring it back have in common: the watch, what is known of the guest before and after, and what it may be off by.

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/Qemu.psm1", "$PSScriptRoot/ClockLog.psm1" -Verbose:$false

$LinesBefore = 4 # of each thread, which takes seven seconds: for the guest's rates, to a ten-millionth
$LinesAfter = 2
$JudgeNanoseconds = 50000 # that the reading of two hosts' clocks may be off by, and
$JudgePpm = 20 # that the rates of their clocks and TSCs may differ by

<#
.SYNOPSIS
Has guests watched, by nobody who knows what will happen to them, and returns the job that does once it has found one.
#>
function Open-ClockWatch([Parameter(Mandatory)] [string] $Module, [Parameter(Mandatory)] [string] $StatePath) {
    $job = Start-ThreadJob {
        Import-Module $using:Module
        Watch-KvmClock -Correct -Confirm:$false -StatePath $using:StatePath # what others keep is of other guests
    }
    Wait-Until 'the guest is watched' {
        Assert-Running $job
        $job.Output.Count
    }
    $job
}

<#
.SYNOPSIS
What ended too soon says why.
#>
function Assert-Running([Parameter(Mandatory)] $Job) {
    if ($Job.State -notin 'NotStarted', 'Running') {
        $null = Receive-Job $Job
    }
}

<#
.SYNOPSIS
Ends a watch.
#>
function Close-ClockWatch([Parameter(Mandatory)] $Watch) {
    $Watch | Stop-Job
    $Watch | Receive-Job -ErrorAction Continue | Out-Null
    $Watch | Remove-Job
}

<#
.SYNOPSIS
What is known of a guest and its host after some seconds of the guest's, more of them before it is taken away, and what it has logged since it was known last.
When it is taken away it is busy, so that it reads its clocks at once when it is back.
#>
function Watch-Guest([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string] $Image, [switch] $Before, [switch] $FromNow) {
    Use-Guest $Guest -Arguments $Image, ($Before ? $LinesBefore : $LinesAfter), $FromNow.IsPresent, $Before.IsPresent {
        param($there, $image, $lines, $fromNow, $busy)
        $earlier = Read-HostClock $image
        $before = $fromNow ? (Sync-GuestLog $there) : 0 # lines that it had not written yet when it was stopped among them
        foreach ($thread in 0, 1) {
            Wait-GuestLog $there "^second thread=$thread " -Count $lines -Skip $before
        }
        $report = Get-GuestReport $there -Busy:$busy
        @{
            ClockSource = $report.ClockSource
            Messages    = $report.Messages
            Log         = @(Receive-GuestLog $there)
            Offsets     = @(Read-TscOffset $there.Process.Id)
            HostEarlier = $earlier
            Host        = Read-HostClock $image
        }
    }
}

<#
.SYNOPSIS
How far off kvmclock was told to be, and how far it may be by its bound, after the restore, or after the last correction by a watch.
#>
function Get-Correction($Restored, $Told) {
    $last = $Told | Where-Object Event -EQ Corrected | Select-Object -Last 1
    @{
        Residual = $Restored ? $Restored.ClockResidualNanoseconds : $last ? $last.ResidualNanoseconds : 0
        Bound    = $Restored ? $Restored.ErrorBoundNanoseconds : $last ? $last.ErrorBoundNanoseconds : 0
    }
}

<#
.SYNOPSIS
What Compare-GuestClock is to let a guest be off by.
#>
function Get-Tolerance([Parameter(Mandatory)] [hashtable] $Correction, [bool] $OnAnotherHost) {
    $OnAnotherHost ? @{
        OnAnotherHost        = $true
        ToleranceNanoseconds = $Correction.Bound + $JudgeNanoseconds
        TolerancePpm         = $JudgePpm
    } : @{
        ToldNanoseconds = [Math]::Abs($Correction.Residual)
    }
}

Export-ModuleMember Open-ClockWatch, Assert-Running, Close-ClockWatch, Watch-Guest, Get-Correction, Get-Tolerance
