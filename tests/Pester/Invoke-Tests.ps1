#Requires -Version 7.6
<#
.SYNOPSIS
Runs the tests of the cmdlets, in a PowerShell of their own that asks nothing.
.DESCRIPTION
Host  what needs no KVM
Kvm   what has the tag Kvm: on a KVM host, as root (lab/kvmlab exec)
Long  what of that has the tag Long too, which is left out otherwise
Scaling  what needs a CPU that scales TSCs: on an Intel host (lab/kvmlab exec --cpu intel)
Sleep  what has a host sleep: on an Intel host whose TSC begins anew then (lab/kvmlab exec --cpu intel)
Packages  the packages in out/packages
Installed  the same, installed, and the checks of a host that come with them: on an emulated host, as root (lab/kvmlab exec --emulate)
Its last line is the count, after one for each test that failed or was skipped.
.EXAMPLE
pwsh -NoProfile -NonInteractive -File tests/Pester/Invoke-Tests.ps1 Host out/KvmTsc/KvmTsc.psd1 out/results
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory, Position = 0)]
    [ValidateSet('Host', 'Kvm', 'Long', 'Scaling', 'Sleep', 'Packages', 'Installed')]
    [string] $Tier,

    # The staged module.
    [Parameter(Mandatory, Position = 1)]
    [string] $Manifest,

    # Where the report goes.
    [Parameter(Mandatory, Position = 2)]
    [string] $Results,

    # The test files, all if none are given.
    [Parameter(Position = 3, ValueFromRemainingArguments)]
    [string[]] $Path = $PSScriptRoot
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSStyle.OutputRendering = 'PlainText'

# Pester ignores what it does not know, so a misspelt key would go unnoticed.
function Get-Configuration([string] $Path) {
    $data = Import-PowerShellDataFile $Path
    $configuration = New-PesterConfiguration
    foreach ($section in $data.Keys) {
        if ($section -notin $configuration.PSObject.Properties.Name) {
            throw "${Path}: Pester's configuration has no section '$section'."
        }
        foreach ($key in $data[$section].Keys) {
            if ($key -notin $configuration.$section.PSObject.Properties.Name) {
                throw "${Path}: Pester's configuration has no '$section.$key'."
            }
            $configuration.$section.$key = $data[$section][$key]
        }
    }
    $configuration
}

if ('-NonInteractive' -notin [Environment]::GetCommandLineArgs()) {
    & pwsh -NoProfile -NonInteractive -File $PSCommandPath $Tier $Manifest $Results @Path
    exit $LASTEXITCODE
}
Import-Module Pester -MinimumVersion 6.0.1
Import-Module (Convert-Path $Manifest)

$configuration = Get-Configuration (Join-Path $PSScriptRoot PesterConfiguration.psd1)
$configuration.Run.Path = $Path
switch ($Tier) {
    Host { $configuration.Filter.ExcludeTag = 'Kvm', 'Scaling', 'Sleep', 'Packages', 'Installed' }
    Kvm {
        $configuration.Filter.Tag = 'Kvm'
        $configuration.Filter.ExcludeTag = 'Long'
    }
    default { $configuration.Filter.Tag = $Tier }
}
$null = New-Item $Results -ItemType Directory -Force
$configuration.TestResult.OutputPath = Join-Path $Results "Pester-$Tier.xml"
$configuration.TestResult.TestSuiteName = "KvmTsc cmdlets, $Tier"

# The first line of why.
function Get-Reason($Result) {
    $MaximumLength = 500 # an object that is not as expected is shown with all that it has
    $reason = "$($Result.ErrorRecord | Select-Object -First 1)".Trim().Split("`n")[0].TrimEnd()
    $reason.Length -gt $MaximumLength ? $reason.Substring(0, $MaximumLength) + '...' : $reason
}

$run = Invoke-Pester -Configuration $configuration
$run.FailedContainers + $run.FailedBlocks | ForEach-Object { "FAILED: ${_}: $(Get-Reason $_)" }
$run.Failed + $run.Inconclusive | ForEach-Object { "FAILED: $($_.ExpandedPath): $(Get-Reason $_)" }
$run.Skipped | ForEach-Object { "SKIPPED: $($_.ExpandedPath): $(Get-Reason $_)" }
$failed = $run.FailedCount + $run.FailedBlocksCount + $run.FailedContainersCount + $run.InconclusiveCount
Write-Output "$($run.PassedCount) passed, $failed failed, $($run.SkippedCount) skipped"
if ($failed -gt 0 -or $run.PassedCount -eq 0) {
    exit 1
}
