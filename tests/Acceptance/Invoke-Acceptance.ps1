#Requires -Version 7.6
<#
.SYNOPSIS
Verifies this host: what its KVM can do, that offsets do what they say, that attaching does no harm, that migrations are exact.
.DESCRIPTION
It takes a minute, and no VM but those that it makes itself: in this process, in one of its own, and under QEMU where that is installed. Run it as root, who may
do all of it. What the host lacks is skipped, with the reason; a check that fails is a finding, of this host or of KvmTsc: please report it.

It needs Pester 5 or newer. Its last line is the count; the exit status is 1 where a check failed.
.EXAMPLE
& "$((Get-Module KvmTsc -ListAvailable)[0].ModuleBase)/tests/Invoke-Acceptance.ps1"
.EXAMPLE
& "$((Get-Module KvmTsc -ListAvailable)[0].ModuleBase)/tests/Invoke-Acceptance.ps1" -OutputPath acceptance.xml

A report as NUnit XML as well.
#>
[CmdletBinding()]
param(
    # Where a report goes, as NUnit XML.
    [Parameter(Position = 0)]
    [string] $OutputPath
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

if (-not (Get-Module Pester -ListAvailable | Where-Object Version -GE '5.0')) {
    throw 'Pester is missing. Install it: Install-PSResource Pester. For a host without internet: Save-PSResource Pester on another, and copy it.'
}
Import-Module Pester -MinimumVersion 5.0

$configuration = New-PesterConfiguration
$configuration.Run.Path = 'Host', 'Migration', 'Attach', 'Qemu' | ForEach-Object { "$PSScriptRoot/$_.Tests.ps1" }
$configuration.Run.PassThru = $true
$configuration.Output.Verbosity = 'Detailed'
if ($OutputPath) {
    $configuration.TestResult.Enabled = $true
    $configuration.TestResult.OutputFormat = 'NUnitXml'
    $configuration.TestResult.OutputPath = $OutputPath
    $configuration.TestResult.TestSuiteName = "KvmTsc on $([Environment]::MachineName)"
}
$run = Invoke-Pester -Configuration $configuration
$failed = $run.FailedCount + $run.FailedBlocksCount + $run.FailedContainersCount
"$($run.PassedCount) passed, $failed failed, $($run.SkippedCount) skipped"
if ($failed -gt 0 -or $run.PassedCount -eq 0) {
    exit 1
}
