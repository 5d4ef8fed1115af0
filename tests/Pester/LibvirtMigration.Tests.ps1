# A domain of libvirt that virsh migrates to another host while it runs: lab/kvmlab exec --hosts h1,h2. Its guest's own clocks are the judge.
BeforeDiscovery {
    $script:isThere = @(Get-Command libvirtd, virsh -CommandType Application -ErrorAction Ignore).Count -ge 2
}

Describe 'A domain of libvirt that moves to another host' -Tag Kvm, Long {
    if (-not $isThere) {
        It 'keeps its time' {
            Set-ItResult -Skipped -Because 'libvirt is missing. Install it: sudo apt-get install libvirt-daemon-system libvirt-clients qemu-utils apparmor'
        }
        return
    }

    BeforeAll {
        $script:sample = (Resolve-Path "$PSScriptRoot/../../samples/Invoke-LibvirtOperation.ps1").ProviderPath
        $script:rows = @(& $sample Migrate -Run Without, With, Hook -DestinationHost h2 -InformationAction Continue)
        $rows | Select-Object * -ExcludeProperty Told | Format-Table -AutoSize | Out-String -Width 250 | Write-Information -InformationAction Continue
    }

    It 'loses time without KvmTsc' {
        $row = $rows.Where({ $_.Run -eq 'Without' })[0]
        $row.WrongSamples | Should-Be $row.Samples
    }

    It 'loses no more than the clocks of both hosts may be apart, from its first sample on: <Run>' -ForEach @{ Run = 'With' }, @{ Run = 'Hook' } {
        $row = $rows.Where({ $_.Run -eq $Run })[0]
        $row.FirstSamples | Should-Be 2
        $row.WrongSamples | Should-Be 0 -Because "of $($row.Samples), the first is off by $($row.FirstOffBy) ms"
        $row.Backwards | Should-Be 0
        $row.Warnings | Should-BeCollection @()
    }
}
