# cmake -DFROM=FILE -DTO=FILE.cpp -P EmbedFile.cmake: the file's bytes as
# tombolo::report::kPage; none where FROM is empty.
set(bytes "")
if(FROM)
  file(READ ${FROM} bytes HEX)
endif()
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${TO} "// From '${FROM}', by EmbedFile.cmake.
namespace tombolo::report {
extern const unsigned char kPage[];
extern const unsigned long kPageBytes;
const unsigned char kPage[] = {\n${bytes}0};
const unsigned long kPageBytes = sizeof kPage - 1;
} // namespace tombolo::report
")
