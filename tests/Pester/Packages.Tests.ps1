# The packages that ./build.sh Package has made.
BeforeAll {
    . "$PSScriptRoot/Common.ps1"
    $script:root = (Resolve-Path "$PSScriptRoot/../..").ProviderPath
    $script:packages = "$root/out/packages"
    $script:version = (Import-PowerShellDataFile "$root/KvmTsc.psd1").ModuleVersion
    $script:debian = "$packages/kvmtsc_${version}_amd64.deb"
    $script:rpm = "$packages/kvmtsc-$version-1.x86_64.rpm"
    $script:module = '/usr/share/powershell/Modules/KvmTsc'
    $script:link = '/usr/local/share/powershell/Modules/KvmTsc'

    # What a PowerShell says that finds modules by their names alone, in a home where there is nothing.
    function Invoke-Clean([string] $Script) {
        $directory = (New-Item "$TestDrive/home" -ItemType Directory -Force).FullName
        env -i "HOME=$directory" "PATH=$env:PATH" "DOTNET_ROOT=$env:DOTNET_ROOT" POWERSHELL_TELEMETRY_OPTOUT=1 NO_COLOR=1 `
            pwsh -NoProfile -NonInteractive -Command "`$ErrorActionPreference = 'Stop'; $Script" 2>&1 | ForEach-Object { "$_" }
    }
}

Describe 'The packages' -Tag Packages {
    It 'are the same to the byte when they are built again, elsewhere' {
        $copy = (New-Item "$TestDrive/elsewhere" -ItemType Directory).FullName
        tar --create --exclude=./out --directory=$root . | tar --extract --directory=$copy
        $said = pwsh -NoProfile -NonInteractive -File "$copy/build.ps1" Package 2>&1
        $LASTEXITCODE | Should-Be 0 -Because "$said"
        Get-Content "$copy/out/packages/SHA256SUMS" | Should-BeCollection (Get-Content "$packages/SHA256SUMS")
    }

    It 'are those of which SHA256SUMS has the digests' {
        $checked = sh -c 'cd "$1" && sha256sum --check --strict SHA256SUMS' sh $packages
        $LASTEXITCODE | Should-Be 0 -Because "$checked"
        $checked.Count | Should-Be ((Get-ChildItem $packages).Count - 1)
        $checked.Count | Should-Be 5
    }

    It 'have all of the module in them: <_>' -ForEach zip, nupkg, deb, rpm {
        $place = (New-Item "$TestDrive/$_" -ItemType Directory).FullName
        $file = (Get-ChildItem $packages -Filter "*.$_").FullName
        $unpacked = switch ($_) {
            zip { Expand-Archive $file $place; "$place/KvmTsc" }
            nupkg { Expand-Archive $file $place; $place }
            deb { dpkg-deb --extract $file $place; "$place$module" }
            rpm { sh -c 'rpm2archive - <"$1" | tar --extract --gzip --directory="$2"' sh $file $place; "$place$module" }
        }
        $base = (Get-Module KvmTsc).ModuleBase
        Get-ChildItem $base -File -Recurse | ForEach-Object {
            $name = [IO.Path]::GetRelativePath($base, $_)
            "$((Get-FileHash (Join-Path $unpacked $name)).Hash) $name" | Should-Be "$((Get-FileHash $_).Hash) $name"
        }
        foreach ($name in 'KvmTsc.pdb', 'KvmTsc.PowerShell.pdb', 'LICENSE', 'en-US/about_KvmTsc.help.txt', 'en-US/KvmTsc.PowerShell.dll-Help.xml') {
            Test-Path "$unpacked/$name" | Should-BeTrue
        }
    }

    It 'name lines in a stack trace, and no path of the machine that built them' {
        Expand-Archive "$packages/KvmTsc-$version.zip" "$TestDrive/traced"
        $trace = Invoke-Clean "Import-Module '$TestDrive/traced/KvmTsc/KvmTsc.psd1'; try { Get-Item /nowhere | Import-KvmTscState } catch { }; try { Import-KvmTscState /dev/null } catch { `$_.Exception.StackTrace }"
        "$trace" | Should-MatchString ' in /_/src/KvmTsc/\w+/\w+\.cs:line \d+'
    }

    It 'are installed by name from a folder that is a repository' {
        $repository = (New-Item "$TestDrive/repository" -ItemType Directory).FullName
        Copy-Item "$packages/KvmTsc.$version.nupkg" $repository
        $said = Invoke-Clean "
            Register-PSResourceRepository Here '$repository' -Trusted
            Install-PSResource KvmTsc -Repository Here -Quiet
            Import-Module KvmTsc
            (Get-Module KvmTsc).ModuleBase
            (Get-Command -Module KvmTsc).Count
            (Get-Help Watch-KvmClock).Synopsis
            (Get-Help about_KvmTsc).Name
            (Resolve-KvmTscOffset -? | Out-String).Length -gt 500"
        $commands = (Import-PowerShellDataFile "$root/KvmTsc.psd1").CmdletsToExport.Count
        $said | Should-BeCollection @("$TestDrive/home/.local/share/powershell/Modules/KvmTsc/$version", "$commands", (Get-Help Watch-KvmClock).Synopsis, 'about_KvmTsc', 'True')
    }

    It 'of NuGet say what its Gallery shows' {
        Expand-Archive "$packages/KvmTsc.$version.nupkg" "$TestDrive/gallery"
        $said = ([xml] (Get-Content "$TestDrive/gallery/KvmTsc.nuspec" -Raw)).package.metadata
        $said.version | Should-Be $version
        $said.licenseUrl | Should-MatchString 'mit'
        $said.releaseNotes | Should-NotBeWhiteSpaceString
        $said.tags | Should-MatchString 'PSModule.*KVM'
    }

    It 'of RPM run the same scripts as those of Debian, and need nothing that is not everywhere' {
        $scripts = (rpm --query --package --scripts $rpm) -join "`n"
        foreach ($name in 'postinst', 'prerm', 'postrm') {
            $scripts.Contains((Get-Content "$root/packaging/$name" -Raw).Trim()) | Should-BeTrue
        }
        rpm --query --package --requires $rpm | Where-Object { $_ -notmatch '^(rpmlib\(|/bin/sh$)' } | Should-BeCollection @()
    }

    It 'have a bill of their materials: themselves, and what PowerShell brings' {
        $bill = Get-Content "$packages/KvmTsc-$version.cdx.json" -Raw | ConvertFrom-Json
        "$($bill.bomFormat), $($bill.metadata.component.name) $($bill.metadata.component.version)" | Should-Be "CycloneDX, KvmTsc $version"
        $bill.components.name | Should-BeCollection @('PowerShellStandard.Library')
    }
}

Describe 'The package of <Name>, installed' -Tag Installed -ForEach @(
    @{ Name = 'Debian' }
    @{ Name = 'RPM' }
) {
    BeforeAll {
        [Environment]::MachineName | Should-Be 'kvmlab' -Because 'it is installed on an emulated host only'

        # What is where packages put something; what the package managers note is theirs.
        function Get-Present {
            , [Collections.Generic.HashSet[string]] @(find /etc /opt /usr/local /usr/lib/systemd /usr/share/powershell /usr/share/doc /usr/share/man /var/lib -path /var/lib/dpkg -prune -o -path /var/lib/rpm -prune -o -print 2>$null)
        }

        # Installs it, as a newer one where it is there.
        function Install-Built {
            $said = $Name -eq 'Debian' ? (dpkg --install $debian 2>&1) : (rpm --upgrade --force --nodeps $rpm 2>&1)
            $LASTEXITCODE | Should-Be 0 -Because "$said"
            "$said"
        }

        function Uninstall-Built {
            $said = $Name -eq 'Debian' ? (dpkg --purge kvmtsc 2>&1) : (rpm --erase kvmtsc 2>&1)
            $LASTEXITCODE | Should-Be 0 -Because "$said"
        }

        $script:present = Get-Present
        $script:said = Install-Built
    }

    It 'says nothing of itself' {
        $said | Should-NotMatchString 'KvmTsc:'
    }

    It 'is found by name, with its help, and works' {
        Invoke-Clean '(Get-KvmHost).CanMigrateTsc; (Get-Module KvmTsc).ModuleBase; (Get-Help Get-KvmHost).Synopsis; (Get-Help about_KvmTsc).Name; (Test-KvmVcpuTscOffset).Passed' |
            Should-BeCollection @('True', $link, (Get-Help Get-KvmHost).Synopsis, 'about_KvmTsc', 'True', 'True', 'True')
    }

    It 'has the service, which nobody has turned on' {
        systemctl --root=/ is-enabled kvmtsc-watch | Should-Be 'disabled'
        $start = (Get-Content /usr/lib/systemd/system/kvmtsc-watch.service) -match '^ExecStart=' -replace '.* '
        Test-Path $start | Should-BeTrue
    }

    It 'has a page of the manual' {
        man --warnings kvmtsc 2>&1 | Out-String | Should-MatchString 'Get-Help about_KvmTsc'
    }

    It 'goes on being found when a newer one is installed' {
        $null = Install-Built
        (Get-Item $link).Target | Should-Be $module
        Test-Path "$link/KvmTsc.psd1" | Should-BeTrue
    }

    It 'leaves nothing when it is removed' {
        Uninstall-Built
        $present.SymmetricExceptWith((Get-Present))
        @($present) | Should-BeCollection @()
    }

    It 'leaves alone what was there before, and says so' {
        $null = New-Item $link -ItemType Directory -Force
        Install-Built | Should-MatchString "KvmTsc: $link was there before"
        Uninstall-Built
        Get-ChildItem (Split-Path $link) -Name | Should-BeCollection @('KvmTsc')
        Remove-Item /usr/local/share/powershell/Modules -Recurse
    }
}
