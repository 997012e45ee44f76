skip_without_python()

# Random weights of a small segmentation model, in a file.
street_model <- function() {
  path <- tempfile(fileext = ".safetensors")
  python <- function(name) reticulate::import(name, convert = FALSE)
  head <- python("convnext.segmentation")$SegmentationHead("mlp", width = 16L)
  architecture <- reticulate::py_get_item(python("convnext")$VARIANTS, "test_v2")
  weights <- python("convnext.weights.random_weights")$random_weights(architecture, 3L, segmentation = head)
  recipe <- python("convnext.images.recipe")$Preprocess(size = 64L, mode = "squash")
  info <- python("convnext.weights.info")$WeightsInfo(
    labels = reticulate::tuple("road", "sky", "tree"), preprocess = recipe
  )
  python("convnext")$save_weights(weights, path, info = info)
  path
}

test_that("each class of a picture is a row", {
  model <- street_model()
  paths <- c(pictures(2), tempfile(fileext = ".png"))
  expect_warning(areas <- segment(paths, model, maps = TRUE), "1 of 3 pictures", class = "convnext_image_warning")
  expect_named(areas, c("picture", "class", "label", "pixels", "share", "error"))
  expect_identical(unique(areas$picture), paths)
  first <- areas[areas$picture == paths[[1]], ]
  expect_identical(sum(first$pixels), 48L * 40L)
  expect_equal(sum(first$share), 1, tolerance = 1e-5)
  expect_identical(first$label, c("road", "sky", "tree")[first$class])
  map <- attr(areas, "maps")[[1]]
  expect_identical(dim(map), c(40L, 48L))
  expect_identical(as.integer(table(factor(map, first$class))), first$pixels)
  expect_null(attr(areas, "maps")[[3]])
  expect_true(is.na(areas$class[nrow(areas)]))
  expect_null(attr(suppressWarnings(segment(paths[[1]], model, inference = "tiles", flip = TRUE)), "maps"))
})

test_that("what cannot be segmented is refused", {
  expect_error(segment(photograph(), "bundled"), "Classifier", class = "convnext_argument_error")
  expect_error(classify(photograph(), street_model()), "Segmenter", class = "convnext_argument_error")
  expect_error(segment(photograph(), street_model(), flip = 3), "TRUE or FALSE", class = "convnext_argument_error")
  expect_error(segment(photograph(), street_model(), inference = "half"), "half", class = "convnext_argument_error")
})
