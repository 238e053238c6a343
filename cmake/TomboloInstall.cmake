# What is installed beside the programs, and the packages: find_package(Tombolo),
# examples, Python, `cpack` (docs/Packages.md).
set(TOMBOLO_CONFIG_FOLDER lib/cmake/Tombolo)

if(TOMBOLO_BUILD_COMPILER)
  include(CMakePackageConfigHelpers)
  set(INCLUDE_FOLDER include)
  set(PROGRAM_FOLDER bin)
  configure_package_config_file(cmake/TomboloConfig.cmake.in ${CMAKE_BINARY_DIR}/TomboloConfig.cmake
    INSTALL_DESTINATION ${TOMBOLO_CONFIG_FOLDER} PATH_VARS INCLUDE_FOLDER PROGRAM_FOLDER)
  # Until 1.0 each minor version may break plugins.
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/TomboloConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/TomboloConfig.cmake ${CMAKE_BINARY_DIR}/TomboloConfigVersion.cmake
    DESTINATION ${TOMBOLO_CONFIG_FOLDER})
  install(DIRECTORY include/tombolo ${CMAKE_BINARY_DIR}/include/tombolo DESTINATION include
    FILES_MATCHING PATTERN "*.h" PATTERN "*.inc" PATTERN "*.td" PATTERN CMakeFiles EXCLUDE)
  install(DIRECTORY examples DESTINATION share/tombolo)
  install(DIRECTORY docs/ DESTINATION share/doc/tombolo FILES_MATCHING PATTERN "*.md" PATTERN "*.png")
  install(FILES README.md CHANGELOG.md DESTINATION share/doc/tombolo)
  install(FILES LICENSE DESTINATION share/doc/tombolo RENAME copyright)

  # The Python package. Debian's Python looks for it in one place, and in none
  # below another prefix: there PYTHONPATH names it, or pip installs it.
  set(messages ${CMAKE_BINARY_DIR}/python/tombolo/schema/plan_pb2.py)
  add_custom_command(OUTPUT ${messages}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/python/tombolo/schema
    COMMAND protobuf::protoc --proto_path=${TOMBOLO_RUNTIME_DIR}/schema
            --python_out=${CMAKE_BINARY_DIR}/python/tombolo/schema plan.proto
    DEPENDS ${TOMBOLO_RUNTIME_DIR}/schema/plan.proto VERBATIM)
  add_custom_target(tombolo-python ALL DEPENDS ${messages})
  install(CODE "
    set(TOMBOLO_PYTHON_FOLDER lib/tombolo/python)
    if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
      set(TOMBOLO_PYTHON_FOLDER lib/python3/dist-packages)
    endif()")
  install(DIRECTORY python/tombolo ${CMAKE_BINARY_DIR}/python/tombolo DESTINATION "\${TOMBOLO_PYTHON_FOLDER}"
    FILES_MATCHING PATTERN "*.py" PATTERN "py.typed")
endif()
install(FILES LICENSE DESTINATION share/doc/tombolo-runtime RENAME copyright COMPONENT runtime)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR Tombolo)
set(CPACK_PACKAGE_CONTACT "the authors of Tombolo <tombolo@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Training of one large model on unlike chips in distant data centres")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL runtime)
if(TOMBOLO_BUILD_COMPILER)
  list(APPEND CPACK_COMPONENTS_ALL compiler)
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME tombolo-runtime)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "What runs plans: tombolo-run, tombolo-sim, tombolo-report and the PyTorch executor.")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS "python3-torch, python3-grpcio, python3-protobuf, bash-completion")
set(CPACK_DEBIAN_COMPILER_PACKAGE_NAME tombolo)
set(CPACK_COMPONENT_COMPILER_DESCRIPTION "What makes plans: models, topologies and passes; the Python package; what plugins are built with.")
set(CPACK_DEBIAN_COMPILER_PACKAGE_DEPENDS "tombolo-runtime (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_COMPILER_PACKAGE_RECOMMENDS "python3, python3-protobuf")
set(CPACK_DEBIAN_COMPILER_PACKAGE_SUGGESTS
  "libmlir-19-dev, llvm-19-dev, mlir-19-tools, cmake, g++, python3-torch, python3-onnx, python3-pandas")
include(CPack)
