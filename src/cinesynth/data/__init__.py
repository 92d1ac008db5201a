"""From files of many hospitals to one dataset, and from there to the voxel grid of a model.

Read in the order in which the data flow:

1. `sources`, `dicom`, `phantom`: each source yields a `cinesynth.types.Study` per subject, on the scanner's grid.
   How to add a dataset is told in `sources`. `nifti` reads and checks the files, `space` compares where they lie,
   `orientation` puts the base first, `terms` translates vendors and diagnoses, and knows licences and citations.
2. `ingest`: writes studies (`store`, one HDF5 file per subject), by way of a staging folder, and the table
   of subjects with their splits (`dataset_table`). `duplicates` keeps one person under two names in one split.
3. `plausibility`: what no heart shows, refused before it is stored. `quality`, `findings` and `doctor`: what a person
   should check in a study, and whether a dataset is consistent. `label_shape` measures labels.
4. `packed`: the dataset on a model's grid, as bytes. It uses `geometry` (placing a study on a grid, and back),
   `resample` and `normalisation` (where the heart is; phases, 0 at ED and 1 at ES; intensities, to [-1, 1]).
"""
