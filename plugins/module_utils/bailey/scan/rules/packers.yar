// Packed programs. Honest ones are packed too, to be small: they are told, and nothing more.

rule packed_by_upx : report
{
    strings:
        $mark = "UPX!"
        $words = "This file is packed with the UPX executable packer"
    condition:
        uint32(0) == 0x464C457F and $mark and ($words or #mark >= 2)
}
