Describe 'Resolve-KvmTscFrequency' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'finds what hosts can all give, and what each makes of it' {
        $common = (Get-SampleHost kvm1 2100000), (Get-SampleHost kvm2 2600000 48), (Get-SampleHost kvm3 2100300) | Resolve-KvmTscFrequency
        $common | Should-HaveType ([KvmTsc.Hosts.KvmCommonTscFrequency])
        $common.TscKHz, $common.MinimumTscKHz, $common.MaximumTscKHz | Should-BeCollection 2100150, 2099774, 2100525
        [math]::Round($common.DriftPpm, 3) | Should-Be 142.857
        $common.Hosts.MachineName | Should-BeCollection kvm1, kvm2, kvm3
        $common.Hosts.ScalingRatio | Should-BeCollection 0, ([ulong] [math]::Floor([decimal] 2100150 * [math]::Pow(2, 48) / 2600000)), 0
        $common.Hosts | Should-All { $_.UnscaledPpm -lt 72 -and $_.UnscaledPpm -gt -72 }
    }

    It 'takes hosts from sessions and files, by pipeline or parameter' {
        foreach ($copy in Copy-Everyhow (Get-SampleHost kvm1 2100000 32)) {
            $common = Resolve-KvmTscFrequency $copy, (Get-SampleHost kvm2 2600000)
            $common.TscKHz, $common.Hosts[0].HostTscKHz, $common.Hosts[0].ScalingFractionBits | Should-BeCollection 2600000, 2100000, 32
            ($copy | Resolve-KvmTscFrequency).TscKHz | Should-Be 2100000
        }
    }

    It 'shows itself in views of its own, and comes back from a job' {
        $common = Get-SampleHost kvm1 | Resolve-KvmTscFrequency
        $common | Out-String | Should-MatchString '(?s)TscKHz +: 2096026.*Hosts +: kvm1'
        $common.Hosts | Out-String | Should-MatchString 'kvm1 +2096026 +2095501 +2096550 +no scaling +0'
        (Copy-Deserialized $common).Hosts[0].MaximumTscKHz | Should-Be 2096550
    }

    It 'names hosts that have none in common' {
        $observed = Invoke-Observed { (Get-SampleHost kvm1 2100000), (Get-SampleHost kvm2 2101100) | Resolve-KvmTscFrequency }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] FrequencyUnsupported InvalidArgument 'kvm1, kvm2' 'kvm2 gives none below 2100574 kHz, kvm1 none above 2100525 kHz' 'TSC scaling'
    }

    It 'refuses <What>' -ForEach @(
        @{ What = 'a name'; Value = 'kvm1'; Id = 'ParameterArgumentTransformationError' }
        @{ What = 'an object that is no host'; Value = [pscustomobject] @{ TscKHz = 2100000 }; Id = 'ParameterArgumentTransformationError' }
        @{ What = 'no host'; Value = @(); Id = 'ParameterArgumentValidationError' }
    ) {
        (Invoke-Observed { Resolve-KvmTscFrequency $Value }).Terminating.FullyQualifiedErrorId | Should-MatchString "^$Id"
    }

    It 'refuses a host that cannot be' {
        $observed = Invoke-Observed { Get-SampleHost kvm1 0 | Resolve-KvmTscFrequency }
        Assert-KvmError $observed.Errors[0] InvalidValue InvalidData kvm1 'a TSC of 0 kHz' 'Get-KvmHost'
    }

    It 'writes nothing where it is given nothing' {
        @() | Resolve-KvmTscFrequency | Should-BeCollection @()
    }
}
