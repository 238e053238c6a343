# What the compiler's targets share: MLIR, and functions for dialects, passes,
# libraries and programs.
include_guard(GLOBAL)

find_package(MLIR 19.1 REQUIRED CONFIG HINTS /usr/lib/llvm-19/lib/cmake/mlir)
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)
find_package(Protobuf REQUIRED)  # before ONNX
find_package(ONNX REQUIRED)
find_package(CLI11 REQUIRED)

set(MLIR_BINARY_DIR ${CMAKE_BINARY_DIR})
set(TOMBOLO_INCLUDE_DIR ${CMAKE_SOURCE_DIR}/include)
set(TOMBOLO_GENERATED_INCLUDE_DIR ${CMAKE_BINARY_DIR}/include)
# mlir_tablegen reads directory properties.
include_directories(SYSTEM ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
include_directories(${TOMBOLO_INCLUDE_DIR} ${TOMBOLO_GENERATED_INCLUDE_DIR})
separate_arguments(LLVM_DEFINITIONS_LIST NATIVE_COMMAND ${LLVM_DEFINITIONS})
add_definitions(${LLVM_DEFINITIONS_LIST})

# tombolo_tablegen(<target> <file.td> <output> <generator option>...): repeatable.
macro(tombolo_tablegen_start td)
  set(LLVM_TARGET_DEFINITIONS ${td})
endmacro()

# tombolo_library(<name> SOURCES ... [DEPENDS ...] [LINK_LIBS ...] [PLAIN] [EXCEPTIONS]):
# the static library Tombolo<name>. Unless PLAIN it links libMLIR.so. EXCEPTIONS
# is for files that talk to libraries which throw: they catch at once.
function(tombolo_library name)
  cmake_parse_arguments(ARG "PLAIN;EXCEPTIONS" "" "SOURCES;DEPENDS;LINK_LIBS" ${ARGN})
  add_library(Tombolo${name} STATIC ${ARG_SOURCES})
  target_compile_options(Tombolo${name} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  if(NOT ARG_PLAIN)
    target_link_libraries(Tombolo${name} PUBLIC MLIR LLVM)
    target_compile_options(Tombolo${name} PRIVATE -Wno-comment -Wno-dangling-reference)
  endif()
  if(NOT ARG_EXCEPTIONS AND NOT ARG_PLAIN)
    target_compile_options(Tombolo${name} PRIVATE -fno-exceptions)
  endif()
  if(ARG_LINK_LIBS)
    target_link_libraries(Tombolo${name} PUBLIC ${ARG_LINK_LIBS})
  endif()
  if(ARG_DEPENDS)
    add_dependencies(Tombolo${name} ${ARG_DEPENDS})
  endif()
endfunction()
