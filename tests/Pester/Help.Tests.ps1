BeforeDiscovery {
    $pages = @(Get-ChildItem "$PSScriptRoot/../../docs/help" -Filter *.md)
    $script:commands = @($pages.BaseName -notlike 'about_*')
    $script:examples = foreach ($page in $pages) {
        $number = 0
        # The code of an example, and the output that follows it.
        foreach ($match in [regex]::Matches([IO.File]::ReadAllText($page), '(?ms)^```powershell\n(?<code>.*?)^```$(\s*^```output\n(?<output>.*?)^```$)?')) {
            $number++
            @{ Page = $page.BaseName; Number = $number; Code = $match.Groups['code'].Value; Output = $match.Groups['output'].Value }
        }
    }
}

Describe 'The help' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'has a page for every cmdlet' {
        (Get-ChildItem "$PSScriptRoot/../../docs/help" -Filter *.md).BaseName -notlike 'about_*' | Sort-Object |
            Should-BeCollection ((Get-Command -Module KvmTsc).Name | Sort-Object)
    }

    It 'has the topic <Topic>' -ForEach @(
        @{ Topic = 'about_KvmTsc'; Says = 'KVM_VCPU_TSC_OFFSET' }
        @{ Topic = 'about_KvmTsc_Attach'; Says = 'CAP_SYS_PTRACE' }
        @{ Topic = 'about_KvmTsc_Watch'; Says = 'MaximumDowntime' }
    ) {
        $help = Get-Help $Topic | Where-Object Name -EQ $Topic
        $help.Synopsis | Should-NotBeWhiteSpaceString
        $text = $help | Out-String
        $text | Should-MatchString $Says
        $text -split "`n" | Should-All { $_.Length -le 80 }
    }
}

Describe 'The kept help' {
    It 'is what PlatyPS makes of the pages, which say what the cmdlets do' {
        if (-not (Get-Module Microsoft.PowerShell.PlatyPS -ListAvailable | Where-Object Version -GE '1.0.3')) {
            Set-ItResult -Skipped -Because 'PlatyPS is missing. Install it: Install-PSResource Microsoft.PowerShell.PlatyPS -Version 1.0.3'
        }
        . "$PSScriptRoot/Common.ps1"
        $help = "$PSScriptRoot/../../docs/help"
        # In a PowerShell of its own, where no other KvmTsc is loaded.
        $said = pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/../../docs/Export-Help.ps1" $help (Get-ManifestPath) $TestDrive 2>&1
        "$said" | Should-Be ''
        $made = Get-ChildItem $TestDrive -Filter *.xml
        $made.Name | Should-BeCollection @((Get-ChildItem "$help/en-US").Name)
        foreach ($file in $made) {
            [IO.File]::ReadAllText($file.FullName) | Should-BeString ([IO.File]::ReadAllText("$help/en-US/$($file.Name)").ReplaceLineEndings("`n")) -CaseSensitive
        }
    }
}

Describe 'The help of <_>' -ForEach $commands {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:help = Get-Help $_ -Full
        $script:command = Get-Command $_
    }

    It 'has a synopsis and a description of its own' {
        # Without a page Get-Help makes the synopsis of the syntax.
        $help.Synopsis | Should-NotMatchString "^\s*$($command.Name)"
        $help.Synopsis | Should-NotBeWhiteSpaceString
        "$($help.description.Text)".Length | Should-BeGreaterThan $help.Synopsis.Length
    }

    It 'describes every parameter' {
        # A cmdlet without parameters of its own has none there at all.
        $described = @($help.parameters | Where-Object { $_ } | ForEach-Object parameter | Where-Object { "$($_.description.Text)".Trim() } | ForEach-Object name)
        $common = [System.Management.Automation.Cmdlet]::CommonParameters
        @($command.Parameters.Keys | Where-Object { $_ -notin $common } | Sort-Object) | Should-BeCollection @($described | Sort-Object)
    }

    It 'has at least two examples, each with a title and code' {
        $help.examples.example.Count | Should-BeGreaterThanOrEqual 2
        $help.examples.example | Should-All { $_.title -match 'Example \d+: \w' -and $_.code -match '\w+-Kvm\w+' }
    }

    It 'tells what goes in and comes out, and what else to read' {
        @($help.returnValues.returnValue.type.name) | Should-BeCollection @($command.OutputType ? $command.OutputType.Name : 'None')
        $links = $help.relatedLinks.navigationLink
        @($links.linkText) -contains 'about_KvmTsc' | Should-BeTrue
        $cmdlets = (Get-Command -Module KvmTsc).Name
        $links | Where-Object { $_.linkText -notin $cmdlets -and $_.linkText -notlike 'about_KvmTsc*' -and $_.uri -notlike 'https://*' } | Should-BeCollection @()
    }

    It 'is finished' {
        $help | Out-String | Should-NotMatchString '\{\{'
    }
}

Describe 'Example <Number> of <Page>' -Tag Kvm -ForEach $examples {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"

        # What output shows whatever the values are: the heads of tables, and the names in lists.
        function Get-Shape([string] $Text) {
            $lines = $Text -split '\r?\n' -replace '\e\[[\d;]*m'
            for ($i = 0; $i -lt $lines.Count; $i++) {
                if ($lines[$i] -match '^(\w+) +:') { $Matches[1] }
                if ($lines[$i] -match '^[- ]*---[- ]*$') { ($lines[$i - 1] -replace '\s+', ' ').Trim() }
            }
        }

        Clear-VM
        $null = 'web01', 'web01-new' | New-KvmVM -VcpuCount 2
        # An error that the example itself catches is none.
        $script:observed = Invoke-Interactive @"
`$left = [Collections.Generic.List[string]]::new()
& {
$Code
} 2>&1 | ForEach-Object { if (`$_ -is [Management.Automation.ErrorRecord]) { `$left.Add(`$_) } else { `$_ } } | Out-String -Width 120
`$left
"@ Yes
    }

    AfterAll {
        Clear-VM
    }

    It 'runs, and shows what the page shows' {
        $shown, $errors = $observed.Output
        "$($observed.Terminating)$errors" | Should-Be ''
        $all = "$($observed.Lines -join "`n")`n$shown"
        if ($Output) {
            $all | Should-NotBeWhiteSpaceString
        }
        Get-Shape $all | Should-BeCollection @(Get-Shape $Output)
    }
}
