BeforeDiscovery {
    $script:names = (Import-PowerShellDataFile "$PSScriptRoot/../../KvmTsc.psd1").CmdletsToExport
    $setters = 'Set-KvmClock', 'Set-KvmTscFrequency', 'Set-KvmVcpuTscOffset'
    $script:changing = @($setters) + 'New-KvmVM', 'Remove-KvmVM', 'Repair-KvmMasterClock', 'Restore-KvmTscState', 'Invoke-KvmTscMigration', 'Export-KvmTscState', 'Watch-KvmClock'
    $script:selecting = @($setters) + 'Get-KvmClock', 'Get-KvmVcpu', 'Get-KvmTscFrequency', 'Get-KvmVcpuTscOffset', 'Save-KvmTscState', 'Remove-KvmVM', 'Repair-KvmMasterClock', 'Test-KvmVcpuTscOffset'
}

BeforeAll {
    . "$PSScriptRoot/Common.ps1"
    $script:module = Get-Module KvmTsc

    # The types of the objects that cmdlets write, and of what those hold.
    function Get-ObjectType([type[]] $Type) {
        $all = [Collections.Generic.HashSet[type]]::new()
        $left = [Collections.Generic.Queue[type]]::new($Type)
        while ($left.Count) {
            $next = $left.Dequeue()
            if ($next.Assembly.GetName().Name -ne 'KvmTsc' -or $next.IsEnum -or -not $all.Add($next)) {
                continue
            }
            foreach ($property in $next.GetProperties()) {
                $left.Enqueue($property.PropertyType)
                $property.PropertyType.GenericTypeArguments | ForEach-Object { $left.Enqueue($_) }
            }
        }
        $all | Sort-Object Name
    }
    $script:types = Get-ObjectType (Get-Command -Module KvmTsc).OutputType.Type
}

Describe 'The module' {
    It 'has a valid manifest' {
        $warnings = $null
        (Test-ModuleManifest (Get-ManifestPath) -WarningVariable warnings).Name | Should-Be 'KvmTsc'
        $warnings | Should-BeCollection @()
    }

    It 'exports the cmdlets that the manifest names, and nothing else' {
        $manifest = Import-PowerShellDataFile (Get-ManifestPath)
        (Get-Command -Module KvmTsc).Name | Sort-Object | Should-BeCollection ($manifest.CmdletsToExport | Sort-Object)
        $module.ExportedFunctions.Count + $module.ExportedAliases.Count + $module.ExportedVariables.Count | Should-Be 0
        # And the manifest names all that there are.
        $classes = [AppDomain]::CurrentDomain.GetAssemblies() | Where-Object { $_.GetName().Name -eq 'KvmTsc.PowerShell' } | ForEach-Object GetExportedTypes |
            Where-Object { -not $_.IsAbstract -and $_.IsSubclassOf([System.Management.Automation.PSCmdlet]) }
        $classes.Count | Should-Be $manifest.CmdletsToExport.Count
    }

    It 'has one version, the manifest''s' {
        foreach ($name in 'KvmTsc', 'KvmTsc.PowerShell') {
            $assembly = [AppDomain]::CurrentDomain.GetAssemblies() | Where-Object { $_.GetName().Name -eq $name }
            $assembly.GetName().Version.ToString(3) | Should-Be "$($module.Version)"
        }
    }

    It 'needs nothing beside itself and PowerShell' {
        (Get-ChildItem $module.ModuleBase -Filter *.dll -Recurse).Name | Sort-Object | Should-BeCollection KvmTsc.dll, KvmTsc.PowerShell.dll
        $module.RequiredModules | Should-BeCollection @()
    }

    It 'is compiled ahead: nothing of its own is left to the JIT' {
        $log = "$TestDrive/jit"
        $script = "Import-Module '$(Get-ManifestPath)'; Get-KvmHost; Get-KvmVM; Get-KvmClock '*'; Test-KvmTscMigration nobody -Destination nobody -ErrorAction Ignore"
        env "DOTNET_JitStdOutFile=$log" DOTNET_JitDisasmSummary=1 DOTNET_TieredCompilation=0 pwsh -NoProfile -NonInteractive -Command $script *>&1 | Out-Null
        $compiled = @(Get-Content $log) -match 'JIT compiled'
        $compiled.Count | Should-BeGreaterThan 0
        @($compiled -match 'JIT compiled KvmTsc[^\[]*\(').Count | Should-Be 0 -Because ($compiled -match 'KvmTsc' -join '; ') # generics over numbers cannot be
    }

    It 'gives each cmdlet an approved verb and tells what it writes: <_>' -ForEach $names {
        $command = Get-Command $_
        (Get-Verb).Verb -contains $command.Verb | Should-BeTrue
        if ($_ -ne 'Remove-KvmVM') {
            $command.OutputType | Should-BeCollection -Count 1
        }
    }

    It 'lets <_> be asked what it would do' -ForEach $changing {
        $command = Get-Command $_
        $command | Should-HaveParameter WhatIf
        $command | Should-HaveParameter Confirm
    }

    It 'lets no other cmdlet be asked' {
        (Get-Command -Module KvmTsc | Where-Object { $_.Parameters.ContainsKey('WhatIf') }).Name | Sort-Object |
            Should-BeCollection (@('Set-KvmClock', 'Set-KvmTscFrequency', 'Set-KvmVcpuTscOffset', 'New-KvmVM', 'Remove-KvmVM', 'Repair-KvmMasterClock', 'Restore-KvmTscState', 'Invoke-KvmTscMigration', 'Export-KvmTscState', 'Watch-KvmClock') | Sort-Object)
    }

    It 'lets <_> pass on what it has set' -ForEach $setters {
        Get-Command $_ | Should-HaveParameter PassThru -Type switch
    }

    It 'selects VMs for <_> by name, process or object' -ForEach $selecting {
        $command = Get-Command $_
        foreach ($name in 'Name', 'ProcessId', 'VM') {
            $parameter = $command.Parameters[$name]
            $parameter.Attributes.Where({ $_ -is [ArgumentCompleter] }) | Should-BeCollection -Count 1
        }
        $command.Parameters['Name'].Aliases -contains 'VMName' | Should-BeTrue
        $command.Parameters['VM'].Attributes.Where({ $_ -is [Parameter] }).ValueFromPipeline | Should-BeTrue
    }
}

Describe 'The objects' {
    It 'are plain values: sealed, immutable, without handles' {
        $types.Count | Should-BeGreaterThanOrEqual 11
        $types | Should-All { $_.IsSealed -and -not ([IDisposable].IsAssignableFrom($_)) }
        # By their names: a failure shows what it is about with all that it has.
        @($types | ForEach-Object { $_.GetProperties() } | Where-Object CanWrite | ForEach-Object { "$($_.DeclaringType.Name).$($_.Name)" }) | Should-BeCollection @()
        $types | ForEach-Object { $_.GetFields() } | Where-Object { -not $_.IsLiteral } | Should-BeCollection @()
    }

    It 'have a view each' {
        $types.FullName | Where-Object { -not (Get-FormatData $_) } | Should-BeCollection @()
    }

    It 'have no view that is of no object' {
        $views = Select-Xml -Path "$($module.ModuleBase)/KvmTsc.Format.ps1xml" -XPath '//ViewSelectedBy/TypeName' | ForEach-Object { $_.Node.InnerText }
        $views | Where-Object { $_ -notin $types.FullName } | Should-BeCollection @()
        $members = Select-Xml -Path "$($module.ModuleBase)/KvmTsc.Types.ps1xml" -XPath '//Type/Name' | ForEach-Object { $_.Node.InnerText }
        $members | Where-Object { $_ -notin $types.FullName } | Should-BeCollection @()
    }

    It 'show no property in a view that they do not have' {
        foreach ($view in Select-Xml -Path "$($module.ModuleBase)/KvmTsc.Format.ps1xml" -XPath '//View') {
            $type = $types | Where-Object FullName -EQ $view.Node.ViewSelectedBy.TypeName
            $named = @($view.Node.SelectNodes('.//PropertyName') | ForEach-Object InnerText)
            $named += @($view.Node.SelectNodes('.//ScriptBlock') | ForEach-Object { [regex]::Matches($_.InnerText, '\$_\.(\w+)').ForEach({ $_.Groups[1].Value }) })
            $named.Count | Should-BeGreaterThan 0
            $named | Where-Object { $_ -notin $type.GetProperties().Name } | Should-BeCollection @()
        }
    }
}

Describe 'The objects of a KVM host' -Tag Kvm {
    BeforeAll {
        Clear-VM
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        $script:qemu = Start-Process qemu-system-x86_64 '-nodefaults -display none -accel kvm -m 16 -machine microvm -S' -PassThru
        $script:objects = [ordered] @{
            KvmHostInformation    = Get-KvmHost
            KvmVM                 = Get-KvmVM web01
            KvmVcpu               = Get-KvmVcpu web01 -VcpuId 1
            KvmClock              = Get-KvmClock web01
            KvmTscFrequency       = Get-KvmTscFrequency web01 -VcpuId 1
            KvmVcpuTscOffset      = Get-KvmVcpuTscOffset web01 -VcpuId 1
            KvmTscOffsetTest      = Test-KvmVcpuTscOffset | Select-Object -First 1
            KvmTscState           = Save-KvmTscState web01
            KvmTscMigrationResult = Invoke-KvmTscMigration web01 web02 -Confirm:$false
            KvmClockEvent         = Watch-KvmClock -TimeoutSeconds 120 | Select-Object -First 1
            KvmTscMigrationTest   = Test-KvmTscMigration web01 web02
            KvmTscFinding         = (Test-KvmTscMigration web01 web01).Findings[0]
            KvmMasterClockRepair  = Repair-KvmMasterClock web01 -Force
            KvmCommonTscFrequency = Get-KvmHost | Resolve-KvmTscFrequency
        }
        $script:objects.KvmVcpuTscAdvance = $objects.KvmMasterClockRepair.Vcpus[1]
        $script:objects.KvmVcpuTscState = $objects.KvmTscState.Vcpus[1]
        $script:objects.KvmVcpuTscResult = $objects.KvmTscMigrationResult.Vcpus[1]
        $script:objects.KvmHostTscFrequency = $objects.KvmCommonTscFrequency.Hosts[0]
        $script:objects.KvmHostIdentity = $objects.KvmTscState.Host

        # What an object is, as text. An enumeration comes back from a file as its number, with its name as a property, and from a job as its name.
        function Get-Text([object] $InputObject) {
            if ($InputObject -is [enum] -or $InputObject -is [string]) {
                return "$InputObject"
            }
            if ($null -ne $InputObject -and 'Deserialized.System.Enum' -in $InputObject.PSObject.TypeNames) {
                return $InputObject.Value
            }
            ConvertTo-Json $InputObject -Depth 4 -EnumsAsStrings
        }
    }

    AfterAll {
        $qemu | Stop-Process
        Clear-VM
    }

    It 'are all of them' {
        $objects.Values | ForEach-Object { $_.GetType() } | Sort-Object Name | Should-BeCollection $types
    }

    It 'show their values in a view of their own' {
        foreach ($name in $objects.Keys) {
            $shown = $objects[$name] | Out-String -Width 300
            $shown | Should-NotMatchString 'KvmTsc\.'
            $shown | Should-MatchString '\d'
        }
        $objects.KvmClock | Out-String -Width 200 | Should-MatchString "web01 +\d+\.\d{9} +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{7} +$($objects.KvmClock.HostTsc) +TscStable, Realtime, HostTsc +0"
        $objects.KvmVcpuTscOffset | Out-String -Width 200 | Should-MatchString "web01 +1 +$($objects.KvmVcpuTscOffset.OffsetTicks) +0"
        $objects.KvmTscOffsetTest | Out-String -Width 200 | Should-MatchString 'True'
        $objects.KvmTscMigrationResult | Out-String -Width 200 | Should-MatchString 'web01 +web02 .* 0 .* HostTsc'
    }

    It 'come back from a job with all that they had' {
        $all = [pscustomobject] $objects
        $copies = Start-Job { $args[0] } -ArgumentList @(, @($objects.Values)) | Receive-Job -Wait -AutoRemoveJob
        $all.PSObject.Properties.Name.Count | Should-Be $copies.Count
        $index = 0
        foreach ($name in $objects.Keys) {
            $copy = $copies[$index++]
            $copy.PSObject.TypeNames[0] | Should-Be "Deserialized.$($objects[$name].GetType().FullName)"
            foreach ($property in $objects[$name].GetType().GetProperties().Name) {
                Get-Text $copy.$property | Should-Be (Get-Text $objects[$name].$property)
            }
        }
    }

    It 'come back from a file with all that they had' {
        $file = Join-Path $TestDrive objects.xml
        @($objects.Values) | Export-Clixml $file
        $copies = Import-Clixml $file
        $index = 0
        foreach ($name in $objects.Keys) {
            $copy = $copies[$index++]
            foreach ($property in $objects[$name].GetType().GetProperties().Name) {
                Get-Text $copy.$property | Should-Be (Get-Text $objects[$name].$property)
            }
        }
    }

    It 'bind to the next cmdlet: <Name>' -ForEach @(
        @{ Name = 'KvmVM'; Script = { $args[0] | Get-KvmClock } }
        @{ Name = 'KvmVcpu'; Script = { $args[0] | Get-KvmVcpuTscOffset } }
        @{ Name = 'KvmVcpuTscOffset'; Script = { $args[0] | Get-KvmTscFrequency } }
        @{ Name = 'KvmTscFrequency'; Script = { $args[0] | Set-KvmTscFrequency -PassThru } }
        @{ Name = 'KvmClock'; Script = { $args[0] | Save-KvmTscState } }
        @{ Name = 'KvmTscState'; Script = { $args[0] | Get-KvmClock } }
        @{ Name = 'KvmMasterClockRepair'; Script = { $args[0] | Get-KvmClock } }
        @{ Name = 'KvmTscMigrationResult'; Script = { $args[0] | Test-KvmVcpuTscOffset } }
    ) {
        foreach ($form in $objects[$Name], (Copy-Deserialized $objects[$Name])) {
            $bound = & $Script $form
            $bound.VMName | Select-Object -Unique | Should-Be $objects[$Name].VMName
            if ($objects[$Name].PSObject.Properties['VcpuId']) {
                $bound.VcpuId | Should-Be 1
            }
        }
    }
}
