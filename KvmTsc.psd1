@{
    RootModule           = 'KvmTsc.PowerShell.dll'
    ModuleVersion        = '1.0.0'
    GUID                 = '5b0a2f5e-6a0c-4f5c-9c53-0a2d8a1f7e64'
    Author               = 'KvmTsc contributors'
    CompanyName          = 'KvmTsc contributors'
    Copyright            = 'KvmTsc contributors, MIT licence'
    Description          = 'Reads, writes and migrates the clocks of KVM virtual machines: kvmclock and the guest TSC, as the Linux kernel documents for KVM_VCPU_TSC_OFFSET.'
    PowerShellVersion    = '7.6'
    CompatiblePSEditions = @('Core')
    RequiredAssemblies   = @('KvmTsc.dll')
    FormatsToProcess     = @('KvmTsc.Format.ps1xml')
    TypesToProcess       = @('KvmTsc.Types.ps1xml')
    FunctionsToExport    = @()
    CmdletsToExport      = @(
        'Export-KvmTscState'
        'Get-KvmClock'
        'Get-KvmHost'
        'Get-KvmTscFrequency'
        'Get-KvmVcpu'
        'Get-KvmVcpuTscOffset'
        'Get-KvmVM'
        'Import-KvmTscState'
        'Invoke-KvmTscMigration'
        'New-KvmVM'
        'Remove-KvmVM'
        'Repair-KvmMasterClock'
        'Resolve-KvmTscFrequency'
        'Resolve-KvmTscOffset'
        'Restore-KvmTscState'
        'Save-KvmTscState'
        'Set-KvmClock'
        'Set-KvmTscFrequency'
        'Set-KvmVcpuTscOffset'
        'Test-KvmTscMigration'
        'Test-KvmVcpuTscOffset'
        'Watch-KvmClock'
    )
    VariablesToExport    = @()
    AliasesToExport      = @()
    PrivateData          = @{
        PSData = @{
            Tags         = @('Linux', 'KVM', 'TSC', 'kvmclock', 'virtualization', 'migration', 'PSEdition_Core')
            LicenseUri   = 'https://opensource.org/license/mit'
            ReleaseNotes = 'CHANGELOG.md, beside the manifest.'
        }
    }
}
