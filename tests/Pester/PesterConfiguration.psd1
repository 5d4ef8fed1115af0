@{
    Run        = @{
        PassThru                 = $true
        FailOnNullOrEmptyForEach = $true
    }
    Should     = @{
        DisableV5 = $true
    }
    Output     = @{
        Verbosity           = 'Detailed'
        StackTraceVerbosity = 'FirstLine'
        RenderMode          = 'Plaintext'
        CIFormat            = 'None'
    }
    TestResult = @{
        Enabled      = $true
        OutputFormat = 'JUnitXml'
    }
}
