# Cmdlets that need /dev/kvm, where there is none or it may not be opened: in a PowerShell of their own, which leaves what it observed in a file.
BeforeAll {
    . "$PSScriptRoot/Common.ps1"

    # What becomes of scripts in a new PowerShell that is started by a command line of sh, as "$@".
    function Invoke-Elsewhere([string] $CommandLine, [string[]] $Script) {
        $directory = (New-Item (Join-Path ([IO.Path]::GetTempPath()) ([guid]::NewGuid())) -ItemType Directory).FullName
        try {
            # Another user may not be let into the checkout.
            Copy-Item (Split-Path (Get-ManifestPath)) "$directory/KvmTsc" -Recurse
            chmod -R a+rX $directory
            Set-Content "$directory/script.ps1" {
                param([string] $Manifest, [string] $Scripts, [string] $Result)
                Import-Module $Manifest
                $observed = foreach ($script in $Scripts | ConvertFrom-Json) {
                    $caught = $null
                    $written = @(try { & ([scriptblock]::Create($script)) -ErrorAction SilentlyContinue } catch { $caught = $_ })
                    [pscustomobject] @{
                        Written     = $written.Count
                        Terminating = $null -ne $caught
                        Id          = "$($caught.FullyQualifiedErrorId)"
                        Category    = "$($caught.CategoryInfo.Category)"
                        Target      = "$($caught.TargetObject)"
                        Message     = "$caught"
                        Action      = "$($caught.ErrorDetails.RecommendedAction)"
                    }
                }
                ConvertTo-Json @($observed) | Set-Content $Result
            }
            $result = New-Item "$directory/result"
            chmod 666 $result
            $arguments = 'pwsh', '-NoProfile', '-NonInteractive', '-File', "$directory/script.ps1", "$directory/KvmTsc/KvmTsc.psd1"
            $log = sh -c $CommandLine $directory @arguments (ConvertTo-Json $Script -Compress) $result.FullName 2>&1
            $observed = Get-Content $result | ConvertFrom-Json
            if (-not $observed) {
                throw "It ended with exit code $LASTEXITCODE`: $log"
            }
            $observed
        }
        finally {
            Remove-Item $directory -Recurse
        }
    }
}

Describe 'A machine without /dev/kvm' {
    BeforeAll {
        # Where there is one, it is hidden from the new process: it alone, since .NET needs others; but who is not root can only hide all.
        $hide = [Environment]::UserName -eq 'root' ?
            @('--mount', 'mount -t tmpfs hide /mnt && mkdir /mnt/upper /mnt/work && mount -t overlay -o lowerdir=/dev,upperdir=/mnt/upper,workdir=/mnt/work hide /dev && rm /dev/kvm') :
            @('--map-root-user --mount', 'mount -t tmpfs hide /dev')
        $commandLine = (Test-Path /dev/kvm) ? "exec unshare $($hide[0]) sh -c '$($hide[1]) && exec `"`$@`"' `"`$0`" `"`$@`"" : 'exec "$@"'
        $script:results = Invoke-Elsewhere $commandLine 'Get-KvmHost', "'web01', 'web02' | New-KvmVM", 'Test-KvmVcpuTscOffset', 'Get-KvmVM'
    }

    It 'ends <Command> with an error that says what to do' -ForEach @(
        @{ Command = 'Get-KvmHost'; Index = 0; Target = [Environment]::MachineName }
        @{ Command = 'New-KvmVM'; Index = 1; Target = 'web01' }
        @{ Command = 'Test-KvmVcpuTscOffset'; Index = 2; Target = '' }
    ) {
        $result = $results[$Index]
        $result.Terminating | Should-BeTrue
        $result.Id | Should-BeLikeString "NoKvmDevice,KvmTsc.PowerShell.Commands.$($Command -replace '-')Command"
        $result.Category | Should-Be 'ResourceUnavailable'
        $result.Target | Should-Be $Target
        $result.Message | Should-MatchString 'There is no /dev/kvm'
        $result.Action | Should-MatchString 'modprobe kvm_amd'
    }

    It 'has no VMs, which is no error' {
        $results[3].Terminating | Should-BeFalse
        $results[3].Written | Should-Be 0
    }
}

Describe 'A user who may not open /dev/kvm' -Tag Kvm {
    BeforeAll {
        # For this process alone /dev/kvm is a file that nobody may open, and PowerShell is where all may go, which its own folder need not be.
        $script = @'
            shift
            touch "$0/locked" && chmod 0 "$0/locked" && mount --bind "$0/locked" /dev/kvm
            mkdir "$0/pwsh" && mount --bind "$PSHOME" "$0/pwsh"
            if [ "$DOTNET_ROOT" ]; then
                mkdir "$0/dotnet" && mount --bind "$DOTNET_ROOT" "$0/dotnet" && export DOTNET_ROOT="$0/dotnet"
            fi
            HOME=/tmp exec setpriv --reuid nobody --regid nogroup --clear-groups "$0/pwsh/pwsh" "$@"
'@
        $commandLine = "export PSHOME='$PSHOME' && exec unshare --mount sh -ec '$script' `"`$0`" `"`$@`""
        $script:qemu = Start-Process qemu-system-x86_64 '-nodefaults -display none -m 16 -machine microvm -S' -PassThru
        $listing = 'Get-KvmVM -WarningVariable warnings -WarningAction SilentlyContinue; throw "$warnings"'
        $script:results = Invoke-Elsewhere $commandLine 'Get-KvmHost', "'web01', 'web02' | New-KvmVM", $listing
    }

    AfterAll {
        $qemu | Stop-Process
    }

    It 'is told which VMMs are not shown' {
        $results[2].Message | Should-BeLikeString "*$($qemu.Id)*as root*"
    }

    It 'is told by <Command> which group to join' -ForEach @(
        @{ Command = 'Get-KvmHost'; Index = 0; Target = [Environment]::MachineName }
        @{ Command = 'New-KvmVM'; Index = 1; Target = 'web01' }
    ) {
        $result = $results[$Index]
        $result.Terminating | Should-BeTrue
        $result.Id | Should-BeLikeString "KvmAccessDenied,KvmTsc.PowerShell.Commands.$($Command -replace '-')Command"
        $result.Category | Should-Be 'PermissionDenied'
        $result.Message | Should-MatchString 'nobody may not open /dev/kvm'
        $result.Action | Should-MatchString 'group kvm'
    }
}
