// Web pages that run what a visitor sends them.

rule php_runs_request
{
    strings:
        $open = "<?"
        $run = /\b(eval|assert|system|passthru|shell_exec|exec|popen|proc_open|pcntl_exec|create_function)\s*\(\s*(@?(base64_decode|gzinflate|gzuncompress|str_rot13|strrev|stripslashes|urldecode|hex2bin)\s*\(\s*){0,4}@?\$_(GET|POST|REQUEST|COOKIE)\s*[\[\{]/ nocase
        $backticks = /`[^`\n]{0,80}\$_(GET|POST|REQUEST|COOKIE)\s*\[[^`\n]{0,80}`/
        $input = /\beval\s*\(\s*@?(base64_decode\s*\(\s*)?file_get_contents\s*\(\s*["']php:\/\/input["']/ nocase
    condition:
        filesize < 1MB and $open and ($run or $backticks or $input)
}

rule php_hidden_code
{
    strings:
        $open = "<?"
        $run = /\b(eval|assert)\s*\(\s*@?(gzinflate|gzuncompress|gzdecode|str_rot13|strrev|convert_uudecode|base64_decode)\s*\(\s*(@?(base64_decode|str_rot13|strrev|gzinflate)\s*\(\s*){0,3}["'][A-Za-z0-9+\/=]{200}/ nocase
    condition:
        filesize < 4MB and $open and $run
}

rule php_known_shell
{
    strings:
        $open = "<?"
        $name1 = "c99shell" nocase
        $name2 = "r57shell" nocase
        $name3 = "b374k"
        $name4 = "FilesMan"
        $name5 = "weevely" nocase
        $name6 = "Web Shell by oRb"
        $name7 = "wso_version"
        $run = /\b(eval|assert|passthru|shell_exec|proc_open)\s*\(/ nocase
        $request = /\$_(GET|POST|REQUEST|COOKIE|FILES)\b/
    condition:
        filesize < 1MB and $open and any of ($name*) and $run and $request
}

rule jsp_runs_request
{
    strings:
        $open = "<%"
        $run = /Runtime\s*\.\s*getRuntime\s*\(\s*\)\s*\.\s*exec\s*\(/
        $request = /request\s*\.\s*getParameter\s*\(/
    condition:
        filesize < 256KB and all of them
}
