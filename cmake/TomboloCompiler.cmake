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

# Debian's MLIR is in no folder where programs look by themselves.
list(APPEND CMAKE_INSTALL_RPATH ${LLVM_LIBRARY_DIR})

set(MLIR_BINARY_DIR ${CMAKE_BINARY_DIR})
set(TOMBOLO_INCLUDE_DIR ${CMAKE_SOURCE_DIR}/include)
set(TOMBOLO_GENERATED_INCLUDE_DIR ${CMAKE_BINARY_DIR}/include)
# mlir_tablegen reads directory properties.
include_directories(SYSTEM ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
include_directories(${TOMBOLO_INCLUDE_DIR} ${TOMBOLO_GENERATED_INCLUDE_DIR})
separate_arguments(LLVM_DEFINITIONS_LIST NATIVE_COMMAND ${LLVM_DEFINITIONS})
add_definitions(${LLVM_DEFINITIONS_LIST})

# The generated reference: build/PRESET/docs/{Dialects,Passes}/*.md.
add_custom_target(tombolo-docs)

# tombolo_reference_page(<td without .td> <page> <generator option>...)
function(tombolo_reference_page td page)
  set(LLVM_TARGET_DEFINITIONS ${td}.td)
  get_filename_component(name ${page} NAME)
  tablegen(MLIR ${name}.md ${ARGN})
  set(output ${CMAKE_BINARY_DIR}/docs/${page}.md)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_BINARY_DIR}/${name}.md ${output}
    DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/${name}.md)
  string(REPLACE "/" "-" target tombolo-docs-${page})
  add_custom_target(${target} DEPENDS ${output})
  add_dependencies(tombolo-docs ${target})
endfunction()

# tombolo_dialect(<Name> [ATTRIBUTES] [ENUMS] [INTERFACES td]): what TableGen
# makes of <Name>Ops.td, as target Tombolo<Name>IncGen.
macro(tombolo_dialect name)
  cmake_parse_arguments(DIALECT "ATTRIBUTES;ENUMS" "INTERFACES" "" ${ARGN})
  string(TOLOWER ${name} mnemonic)
  set(LLVM_TARGET_DEFINITIONS ${name}Ops.td)
  mlir_tablegen(${name}Ops.h.inc -gen-op-decls -dialect=${mnemonic})
  mlir_tablegen(${name}Ops.cpp.inc -gen-op-defs -dialect=${mnemonic})
  mlir_tablegen(${name}Dialect.h.inc -gen-dialect-decls -dialect=${mnemonic})
  mlir_tablegen(${name}Dialect.cpp.inc -gen-dialect-defs -dialect=${mnemonic})
  if(DIALECT_ENUMS)
    mlir_tablegen(${name}Enums.h.inc -gen-enum-decls)
    mlir_tablegen(${name}Enums.cpp.inc -gen-enum-defs)
  endif()
  if(DIALECT_ATTRIBUTES)
    mlir_tablegen(${name}Attrs.h.inc -gen-attrdef-decls -attrdefs-dialect=${mnemonic})
    mlir_tablegen(${name}Attrs.cpp.inc -gen-attrdef-defs -attrdefs-dialect=${mnemonic})
  endif()
  if(DIALECT_INTERFACES)
    set(LLVM_TARGET_DEFINITIONS ${DIALECT_INTERFACES})
    mlir_tablegen(${name}Interfaces.h.inc -gen-op-interface-decls)
    mlir_tablegen(${name}Interfaces.cpp.inc -gen-op-interface-defs)
  endif()
  add_public_tablegen_target(Tombolo${name}IncGen)
  tombolo_reference_page(${name}Ops Dialects/${name} -gen-dialect-doc -dialect=${mnemonic})
endmacro()

# tombolo_passes(<Name>): the passes of a dialect, as target Tombolo<Name>PassesIncGen.
macro(tombolo_passes name)
  set(LLVM_TARGET_DEFINITIONS Passes.td)
  mlir_tablegen(Passes.h.inc -gen-pass-decls -name ${name})
  add_public_tablegen_target(Tombolo${name}PassesIncGen)
  tombolo_reference_page(Passes Passes/${name}Passes -gen-pass-doc)
endmacro()

# MLIR as Debian's shared libraries, which plugins share with the program that
# loads them; or, in a program with the property TOMBOLO_MLIR_INSIDE, the few
# static parts that it needs: it starts without relocating 200 MB.
add_library(TomboloMlirShared INTERFACE)
target_link_libraries(TomboloMlirShared INTERFACE MLIR LLVM)
# As files: Debian's targets of the parts drag in libLLVM.so.
set(parts MLIRAnalysis MLIRAsmParser MLIRBytecodeReader MLIRControlFlowInterfaces MLIRFuncDialect
  MLIRFunctionInterfaces MLIRIR MLIRInferTypeOpInterface MLIRPDLDialect MLIRPDLInterpDialect MLIRPDLToPDLInterp
  MLIRParser MLIRPass MLIRRewrite MLIRRewritePDL MLIRSideEffectInterfaces MLIRSupport MLIRTransformUtils
  MLIRTransforms MLIRTranslateLib LLVMSupport LLVMDemangle)
list(TRANSFORM parts REPLACE "(.+)" "$<TARGET_FILE:\\1>")
list(JOIN parts "," parts)
add_library(TomboloMlirInside INTERFACE)
target_link_libraries(TomboloMlirInside INTERFACE "$<LINK_GROUP:RESCAN,${parts}>" ZLIB::ZLIB zstd::libzstd_shared)
add_library(TomboloMlir INTERFACE)
target_link_libraries(TomboloMlir INTERFACE
  $<IF:$<BOOL:$<TARGET_PROPERTY:TOMBOLO_MLIR_INSIDE>>,TomboloMlirInside,TomboloMlirShared>)

# tombolo_library(<name> SOURCES ... [DEPENDS ...] [LINK_LIBS ...] [PLAIN] [EXCEPTIONS]):
# the static library Tombolo<name>. Unless PLAIN it links MLIR. EXCEPTIONS
# is for files that talk to libraries which throw: they catch at once.
function(tombolo_library name)
  cmake_parse_arguments(ARG "PLAIN;EXCEPTIONS" "" "SOURCES;DEPENDS;LINK_LIBS" ${ARGN})
  add_library(Tombolo${name} STATIC ${ARG_SOURCES})
  target_compile_options(Tombolo${name} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  if(NOT ARG_PLAIN)
    target_link_libraries(Tombolo${name} PUBLIC TomboloMlir)
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
