skip_without_python()

# Opened once.
bundled <- classifier("bundled")

test_that("classes come in a data frame, counted from 1", {
  files <- pictures(2)
  answers <- classify(c(photograph(), files), "bundled", top = 3)
  expect_named(answers, c("picture", "rank", "class", "label", "probability", "wnid", "error"))
  expect_identical(answers$picture, rep(c(photograph(), files), each = 3))
  expect_identical(answers$rank, rep(1:3, 3))
  expect_identical(answers$class[1], 4L)
  expect_identical(answers$label[1], "cat")
  expect_type(answers$wnid, "character")
  all_classes <- classify(photograph(), classifier("bundled", threads = 1), top = 10)
  expect_setequal(all_classes$class, 1:10)
  expect_equal(sum(all_classes$probability), 1, tolerance = 1e-6)
})

test_that("a folder is its pictures", {
  folder <- tempfile()
  pictures(3, folder = folder)
  expect_equal(nrow(classify(folder, bundled, top = 1)), 3)
  expect_equal(nrow(embed(folder, bundled)), 3)
})

test_that("a picture that cannot be read is a row that says why, and a warning", {
  paths <- c(photograph(), "missing.png", photograph())
  expect_warning(answers <- classify(paths, bundled, top = 2), "1 of 3 .*missing.png", class = "convnext_image_warning")
  expect_identical(answers$rank, c(1:2, NA, 1:2))
  expect_match(answers$error[3], "missing.png cannot be read")
  expect_identical(is.na(answers$error), c(TRUE, TRUE, FALSE, TRUE, TRUE))
  expect_warning(vectors <- embed(paths, bundled), "missing.png")
  expect_identical(rowSums(is.na(vectors)), setNames(c(0, 320, 0), paths))
  expect_warning(answers <- classify("missing.png", bundled), class = "convnext_image_warning")
  expect_identical(answers$label, NA_character_)
})

test_that("a Keras model and a weights file answer alike, by the names that are given", {
  model <- create_convnext_v2("atto", 10, c(32, 32, 3), weights = "bundled")
  file <- tempfile(fileext = ".safetensors")
  reticulate::import("convnext")$save_weights(model, file)
  given <- function(source) {
    classifier(source, engine = "keras", precision = "float32", size = 32, labels = LETTERS[1:10])
  }
  by_model <- given(model)
  expect_identical(classifier(by_model), by_model)
  expect_identical(classify(photograph(), by_model, top = 1)$label, "D")
  expect_identical(classify(photograph(), given(file), top = 1)$label, "D")
  expect_equal(embed(photograph(), by_model), embed(photograph(), given(file)), tolerance = 1e-5)
})

test_that("an explanation is a raster or a file", {
  heat <- explain(photograph(), bundled, "cat")
  expect_s3_class(heat, "raster")
  expect_equal(dim(attr(heat, "heat")), c(4, 4))
  expect_true(all(attr(heat, "heat") >= 0))
  expect_identical(attr(heat, "target")$class, 4L)
  by_number <- explain(photograph(), bundled, 4)
  expect_identical(attr(by_number, "target"), attr(heat, "target"))
  expect_identical(attr(explain(photograph(), bundled), "target")$label, "cat")
  file <- tempfile(fileext = ".png")
  expect_identical(expect_invisible(explain(photograph(), bundled, "cat", file = file, side = 100)), file)
  expect_identical(readBin(file, "raw", 4), as.raw(c(0x89, 0x50, 0x4e, 0x47)))
})

test_that("what cannot be answered is refused", {
  expect_error(classify(photograph(), "nope"), "neither a file", class = "convnext_argument_error")
  expect_error(classify(photograph(), 3), "not float", class = "convnext_argument_type_error")
  expect_error(classify(1, bundled), "not numeric", class = "convnext_argument_error")
  expect_error(classify(character(), bundled), "empty", class = "convnext_argument_error")
  expect_error(embed(NA_character_, bundled), "NA", class = "convnext_argument_error")
  expect_error(classify(photograph(), bundled, top = 0), "1 or more", class = "convnext_argument_error")
  expect_error(classify(photograph(), bundled, top = 1.5), "`top`", class = "convnext_argument_error")
  expect_error(classify(photograph(), classifier("bundled", "abacus")), "abacus", class = "convnext_argument_error")
  expect_error(classifier("bundled", labels = c("a", "b")), "10 classes", class = "convnext_argument_error")
  expect_error(explain("missing.png", bundled), "missing.png", class = "convnext_image_error")
  expect_error(explain(photograph(), bundled, "dragon"), "No class is called", class = "convnext_argument_error")
  expect_error(explain(photograph(), bundled, 11), "no class 10", class = "convnext_argument_error")
  expect_error(explain(c("a", "b"), bundled), "one picture", class = "convnext_argument_error")
  expect_error(explain(photograph(), bundled, file = tempfile(fileext = ".nope")), "ValueError", class = "python_error")
})

test_that("Python that is not there is an error that says what to do", {
  expect_error(module("convnext.nothing"), "configure_python", class = "convnext_missing_dependency_error")
})
