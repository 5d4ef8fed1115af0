#Requires -Version 7.6
<#
.SYNOPSIS
Packs a staged module: as a zip, for NuGet, Debian and RPM; with a bill of materials (CycloneDX) and the digests of all.
.DESCRIPTION
The same sources give the same bytes: files are in order, root's, and as old as SOURCE_DATE_EPOCH, by default the last commit.
.EXAMPLE
./packaging/New-Package.ps1 out/KvmTsc out/packages
#>
[CmdletBinding()]
param(
    # The staged module.
    [Parameter(Mandatory, Position = 0)]
    [string] $Stage,

    # The folder for the packages; made anew.
    [Parameter(Mandatory, Position = 1)]
    [string] $Destination
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true

$Root = (Resolve-Path "$PSScriptRoot/..").ProviderPath
$Manifest = Import-PowerShellDataFile "$Stage/KvmTsc.psd1"
$Version = $Manifest.ModuleVersion
$env:SOURCE_DATE_EPOCH ??= git -C $Root log -1 --format=%ct
if (Test-Path $Destination) {
    Remove-Item $Destination -Recurse
}
$Destination = (New-Item $Destination -ItemType Directory).FullName
$Work = (New-Item "$Destination/work" -ItemType Directory).FullName
$Tree = "$Work/tree" # where packages for all users have their files
$Module = "$Tree/usr/share/powershell/Modules/KvmTsc"

function Initialize-Tree {
    $documents = "$Tree/usr/share/doc/kvmtsc"
    $null = New-Item $documents, "$Tree/usr/share/man/man7", "$Tree/usr/lib/systemd/system", (Split-Path $Module) -ItemType Directory
    Copy-Item $Stage $Module -Recurse
    Copy-Item "$Root/LICENSE" "$documents/copyright"
    $null = New-Item "$documents/CHANGELOG.md" -ItemType SymbolicLink -Target ../../powershell/Modules/KvmTsc/CHANGELOG.md
    Copy-Item "$Root/service/kvmtsc-watch.service" "$Tree/usr/lib/systemd/system"
    Copy-Item "$PSScriptRoot/kvmtsc.7" "$Tree/usr/share/man/man7"
    gzip -9n "$Tree/usr/share/man/man7/kvmtsc.7"
    chmod -R 'u=rwX,go=rX' $Tree
    find $Tree -exec touch --no-dereference "--date=@$env:SOURCE_DATE_EPOCH" '{}' +
}

function Export-Zip {
    $names = [string[]] (Get-ChildItem $Module -File -Recurse | ForEach-Object { [IO.Path]::GetRelativePath($Module, $_) })
    [Array]::Sort($names, [StringComparer]::Ordinal)
    $zip = [IO.Compression.ZipFile]::Open("$Destination/KvmTsc-$Version.zip", 'Create')
    foreach ($name in $names) {
        $entry = $zip.CreateEntry("KvmTsc/$name")
        $entry.LastWriteTime = [DateTimeOffset]::FromUnixTimeSeconds($env:SOURCE_DATE_EPOCH)
        $entry.ExternalAttributes = 0x81A4 -shl 16 # -rw-r--r--
        $content = $entry.Open()
        $content.Write([IO.File]::ReadAllBytes("$Module/$name"))
        $content.Dispose()
    }
    $zip.Dispose()
}

# The specification is the one that PowerShell makes for its Gallery; its archive has the time and a random name in it, dotnet's has not.
function Export-NuGetPackage {
    Compress-PSResource $Module $Work
    $zip = [IO.Compression.ZipFile]::OpenRead("$Work/KvmTsc.$Version.nupkg")
    [IO.Compression.ZipFileExtensions]::ExtractToFile($zip.GetEntry('KvmTsc.nuspec'), "$Work/KvmTsc.nuspec")
    $zip.Dispose()
    dotnet pack "$PSScriptRoot/NuGet.csproj" --nologo --verbosity quiet --output $Destination "-p:NuspecFile=$Work/KvmTsc.nuspec" "-p:NuspecBasePath=$Module"
}

function Export-DebianPackage {
    $control = New-Item "$Tree/DEBIAN" -ItemType Directory
    $values = $Manifest + @{ Size = [int] ((Get-ChildItem $Tree -File -Recurse | Measure-Object Length -Sum).Sum / 1KB) }
    [regex]::Replace((Get-Content "$PSScriptRoot/control" -Raw), '\{(\w+)\}', { $values[$args[0].Groups[1].Value] }) | Set-Content "$control/control" -NoNewline
    Copy-Item "$PSScriptRoot/postinst", "$PSScriptRoot/prerm", "$PSScriptRoot/postrm" $control
    chmod -R 'u=rwX,go=rX' $control
    dpkg-deb --root-owner-group --threads-max=1 --build $Tree "$Destination/kvmtsc_${Version}_amd64.deb"
    Remove-Item $control -Recurse
}

function Export-RpmPackage {
    $macros = @{
        _topdir                            = "$Work/rpm"
        _rpmdir                            = $Destination
        _rpmfilename                       = '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm'
        _buildhost                         = 'localhost'
        _binary_payload                    = 'w6.xzdio'
        _build_id_links                    = 'none'
        __os_install_post                  = '%{nil}'
        debug_package                      = '%{nil}'
        use_source_date_epoch_as_buildtime = '1'
        tree                               = $Tree
        packaging                          = $PSScriptRoot
        version                            = $Version
        about                              = $Manifest.Description
    }
    rpmbuild -bb --quiet --target x86_64-linux ($macros.GetEnumerator() | ForEach-Object { '--define', "$($_.Key) $($_.Value)" }) "$PSScriptRoot/kvmtsc.spec"
}

# What is in it besides itself.
function Export-Bill {
    $name = "KvmTsc-$Version.cdx.json"
    Push-Location $Root # where the manifest of tools is
    dotnet tool run dotnet-CycloneDX -- src/KvmTsc.PowerShell/KvmTsc.PowerShell.csproj --output $Destination --filename $name --output-format Json --no-serial-number `
        --disable-package-restore --base-intermediate-output-path out/artifacts --set-name KvmTsc --set-version $Version --set-type Library
    Pop-Location
    $time = [DateTimeOffset]::FromUnixTimeSeconds($env:SOURCE_DATE_EPOCH).ToString('yyyy-MM-ddTHH:mm:ssZ')
    (Get-Content "$Destination/$name" -Raw) -replace '(?<="timestamp": ")[^"]+', $time | Set-Content "$Destination/$name" -NoNewline
}

Initialize-Tree
Export-Zip
Export-NuGetPackage
Export-DebianPackage
Export-RpmPackage
Export-Bill
Remove-Item $Work -Recurse
Push-Location $Destination
Get-ChildItem -Name | Sort-Object -Culture '' | ForEach-Object { sha256sum $_ } | Set-Content SHA256SUMS
Pop-Location
