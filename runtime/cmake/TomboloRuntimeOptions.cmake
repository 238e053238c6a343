# Settings every target of the runtime shares, and the function that makes one.
include_guard(GLOBAL)
include(CTest)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(TOMBOLO_BUILD_EXECUTOR "build device, transport, server, exec and tombolo-run, not only plan and engine" ON)

set(TOMBOLO_RUNTIME_DIR ${CMAKE_CURRENT_LIST_DIR}/.. CACHE INTERNAL "")

# tombolo_runtime_library(<name> SOURCES ... [LINK_LIBS ...]): the static library
# tombolo-rt-<name> with warnings on and the public include folder.
function(tombolo_runtime_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK_LIBS" ${ARGN})
  add_library(tombolo-rt-${name} STATIC ${ARG_SOURCES})
  target_include_directories(tombolo-rt-${name} PUBLIC ${TOMBOLO_RUNTIME_DIR}/include)
  target_compile_options(tombolo-rt-${name} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  target_link_libraries(tombolo-rt-${name} PUBLIC ${ARG_LINK_LIBS})
endfunction()

# tombolo_command_files(<program>): its manual pages and completions, made of what
# it tells about its options, in share/<program> of the build folder.
find_package(Python3 COMPONENTS Interpreter)
function(tombolo_command_files program)
  if(NOT Python3_EXECUTABLE)
    message(STATUS "no manual pages and completions of ${program}: python3 is missing")
    return()
  endif()
  set(script ${TOMBOLO_RUNTIME_DIR}/tools/command-files.py)
  set(stamp ${CMAKE_CURRENT_BINARY_DIR}/${program}.command-files)
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${Python3_EXECUTABLE} ${script} $<TARGET_FILE:${program}> ${CMAKE_BINARY_DIR}/share/${program}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${program} ${script} COMMENT "" VERBATIM)
  add_custom_target(${program}-command-files ALL DEPENDS ${stamp})
  set(made ${CMAKE_BINARY_DIR}/share/${program})
  install(DIRECTORY ${made}/man ${made}/bash-completion DESTINATION share)
  # Debian's zsh looks elsewhere for those of packages.
  install(CODE "
    set(TOMBOLO_ZSH_FOLDER share/zsh/site-functions)
    if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
      set(TOMBOLO_ZSH_FOLDER share/zsh/vendor-completions)
    endif()")
  install(DIRECTORY ${made}/zsh/site-functions/ DESTINATION "\${TOMBOLO_ZSH_FOLDER}")
endfunction()

option(TOMBOLO_BUILD_FUZZERS "build the libFuzzer targets (needs clang)" OFF)
if(TOMBOLO_BUILD_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr,function
    -fno-sanitize-recover=undefined -D_GLIBCXX_ASSERTIONS)
  add_link_options(-fsanitize=address,undefined)
endif()
