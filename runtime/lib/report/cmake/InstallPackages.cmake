# cmake -DNPM=... -DFROM=web -DTO=FOLDER -P InstallPackages.cmake
file(COPY ${FROM}/package.json ${FROM}/package-lock.json ${FROM}/.npmrc DESTINATION ${TO})
# Exactly what the lock file names, by its hashes; nothing of it is run.
execute_process(COMMAND ${NPM} ci --ignore-scripts
  WORKING_DIRECTORY ${TO} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${output}\nnpm could not install what the page of tombolo-report is made of. Without a "
    "network, configure with -DTOMBOLO_REPORT_PAGE=page.html of a build elsewhere (runtime/lib/report/web/page.html there), or without the page: "
    "-DTOMBOLO_BUILD_REPORT=OFF")
endif()
# npm keeps the time of the file that it has unpacked.
file(TOUCH ${TO}/node_modules/.package-lock.json)
