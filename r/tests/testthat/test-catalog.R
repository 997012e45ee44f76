skip_without_python()

test_that("the catalogue is a data frame", {
  models <- list_models()
  expect_named(models, c("name", "parameters", "resolution", "num_classes", "top1", "licence"))
  expect_identical(models$name, reticulate::import("convnext")$list_models())
  tiny <- list_models("*.fb_in1k", family = "v1", size = "tiny")
  expect_identical(tiny$name, "convnext_tiny.fb_in1k")
  expect_identical(tiny$parameters, 28589128L)
  expect_identical(tiny$licence, "MIT")
  expect_equal(nrow(list_models("nothing*")), 0)
  expect_error(list_models(family = "v3"), "v1, v2", class = "convnext_unknown_name_error")
})
