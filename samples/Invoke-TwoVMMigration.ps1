#Requires -Version 7.6
<#
.SYNOPSIS
Migrates the TSC and the kvmclock of one VM to another, and has both guests confirm it.
.DESCRIPTION
Creates two VMs of this process: a source whose guest has been running for a while, and a fresh destination. Migrates the clocks twice, once
to the letter of the kernel's documentation and once exactly, and each time asks the guests: the source's, the destination's, and the
source's again. What the destination's guest reads has to lie between the source's two readings.
.EXAMPLE
./Invoke-TwoVMMigration.ps1 -VcpuCount 4
#>
[CmdletBinding()]
param(
    [ValidateRange(1, 64)]
    [int] $VcpuCount = 2,

    # Where the source's TSC stands against its host's: as if it had come from another host.
    [long] $SourceOffsetTicks = -180000000000
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$staged = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
Import-Module $(if (Test-Path $staged) { $staged } else { 'KvmTsc' })

function Show-Table([object[]] $InputObject, [string] $Title) {
    "`n$Title"
    ($InputObject | Format-Table -AutoSize | Out-String -Width 160).Trim("`r", "`n")
}

# The guest's own word: readings by its code on source, destination and source again.
function Confirm-GuestTsc([string] $Source, [string] $Destination) {
    foreach ($id in (Get-KvmVcpu $Source).VcpuId) {
        $first, $between, $last = $Source, $Destination, $Source |
            ForEach-Object { (Test-KvmVcpuTscOffset -Name $_ -VcpuId $id).ObservedGuestTsc }
        [pscustomobject]@{
            'vCPU'                     = $id
            'Source guest reads'       = $first
            'then destination guest'   = $between
            'then source guest'        = $last
            'Destination in between'   = $first -le $between -and $between -le $last
        }
    }
}

$kvmHost = Get-KvmHost
"KVM host $($kvmHost.MachineName): Linux $($kvmHost.KernelRelease), $($kvmHost.KvmModule), TSC $($kvmHost.TscKHz) kHz"
$null = New-KvmVM web01 -VcpuCount $VcpuCount
$null = New-KvmVM web01-new -VcpuCount $VcpuCount
try {
    Set-KvmVcpuTscOffset web01 $SourceOffsetTicks
    $failed = $false
    Show-Table (Get-KvmVM web01* | Get-KvmClock) 'Before: kvmclock'
    Show-Table (Get-KvmVM web01* | Get-KvmVcpuTscOffset) 'Before: TSC offset of each vCPU'

    foreach ($method in 'Documented', 'Best') {
        $result = Invoke-KvmTscMigration web01 web01-new -Method $method -Force
        Show-Table $result "Migrated (-Method $method)"
        Show-Table $result.Vcpus 'Per vCPU, read back'
        $answers = @(Confirm-GuestTsc web01 web01-new)
        Show-Table $answers 'What the guests read themselves'
        $failed = $failed -or $answers.'Destination in between' -contains $false
    }

    Show-Table (Get-KvmVM web01* | Get-KvmClock) 'After: kvmclock'
    Show-Table (Get-KvmVM web01* | Get-KvmVcpuTscOffset) 'After: TSC offset of each vCPU'
    if ($failed) {
        throw 'A guest reads a TSC that is not the one of the source.'
    }

    "`nMigrated, and confirmed by the guests."
}
finally {
    Get-KvmVM web01, web01-new -ErrorAction Ignore | Remove-KvmVM
}
