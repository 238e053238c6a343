"""Messages that protoc makes of runtime/schema when the package is built."""
