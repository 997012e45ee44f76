test_that("an old reticulate is told what to run, and a new one asks for it", {
  said <- fresh_r(c(
    "wanted <- convnext::configure_python('torch')",
    "cat(wanted, Sys.getenv('KERAS_BACKEND'), '\n')",
    "if ('py_require' %in% getNamespaceExports('reticulate')) print(getExportedValue('reticulate', 'py_require')())"
  ), "KERAS_BACKEND=")
  expect_match(said, "^convnext\\[torch,openvino\\] torch", all = FALSE)
  if (packageVersion("reticulate") < "1.41") {
    create <- "virtualenv_create\\(\"r-convnext\", .*packages = \"convnext\\[torch,openvino\\]\"\\)"
    expect_match(said, create, all = FALSE)
    expect_match(said, "use_virtualenv\\(\"r-convnext\"\\)", all = FALSE)
  } else {
    expect_match(said, "convnext\\[torch,openvino\\]", all = FALSE)
  }
})

test_that("backends that contradict each other, or come too late, are refused", {
  said <- fresh_r("convnext::configure_python('torch')", "KERAS_BACKEND=jax")
  expect_match(paste(said, collapse = " "), "KERAS_BACKEND is \"jax\" in the environment, and \"torch\" was asked for")
  skip_without_python()
  expect_true(python_has("convnext", "keras"))
  expect_false(python_has("convnext", "no_such_package"))
  reticulate::py_config()
  expect_error(configure_python(), "restart R", class = "convnext_argument_error")
})
