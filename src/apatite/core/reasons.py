"""Every reason for which a file, a series or a scan is refused, set aside or flagged: one code, one sentence.

A refusal ends the way of an input; what is set aside could be measured but is not the series to score; a flag goes
with a number to whoever reads it. `docs/reference/exit-codes.md` lists the same codes for users.

Source: the codes grew out of measured faults of DICOM series (docs/explanation/dicom.md).
"""

from typing import Literal

Kind = Literal["refused", "set aside", "flag"]

REASONS: dict[str, tuple[Kind, str]] = {
    # A file
    "NOT_DICOM": ("set aside", "is no DICOM file"),
    "NOT_REGULAR": ("set aside", "is a link, a pipe or a device, not a file itself"),
    "NOT_CT": ("set aside", "is no CT image"),
    "TRUNCATED": ("refused", "ends early"),
    "LENGTH_LIE": ("refused", "states a length that its bytes do not have"),
    "TRAILING_DATA": ("refused", "goes on after its end"),
    "TOO_LARGE": ("refused", "is beyond a size limit"),
    "TOO_DEEP": ("refused", "nests sequences beyond the limit"),
    "BOMB": ("refused", "unpacks to far more than it may hold"),
    "DECODER_CRASH": ("refused", "killed the process that decoded it"),
    "DECODER_TIMEOUT": ("refused", "took too long to decode"),
    "SYNTAX_UNSUPPORTED": ("refused", "is in a transfer syntax that is not read"),
    "LOSSY_8BIT": ("refused", "was compressed to 8 bits with loss; its values are not HU any more"),
    "NO_PIXELS": ("refused", "holds no pixels"),
    "DAMAGED": ("refused", "holds compressed pixels that cannot be decoded"),
    "IO_ERROR": ("refused", "cannot be read"),
    "IO_TIMEOUT": ("refused", "could not be read in time"),
    # A series
    "MIXED_PATIENT": ("refused", "holds images of two patients under one series"),
    "MIXED_SERIES": ("refused", "holds images of two acquisitions that nothing tells apart"),
    "MIXED_IOP": ("refused", "holds slices that are not parallel"),
    "MIXED_SIZE": ("refused", "holds slices of different size or pixel spacing"),
    "DUP_POS": ("refused", "holds different slices at one position"),
    "MISSING_SLICES": ("refused", "lacks slices between others"),
    "LT3_SLICES": ("refused", "has fewer than three slices"),
    "NO_IPP": ("refused", "does not say where a slice lies"),
    "NO_IOP": ("refused", "does not say how a slice is turned"),
    "BAD_IOP": ("refused", "has an orientation that is not two unit vectors at a right angle"),
    "BAD_IPP": ("refused", "has a slice position that is impossible"),
    "NO_SPACING": ("refused", "does not say how large its pixels are"),
    "BAD_SPACING": ("refused", "has an impossible pixel spacing"),
    "NO_HU": ("refused", "does not say how stored values become Hounsfield units"),
    "BAD_RESCALE": ("refused", "has a rescale slope or intercept that is no usable number"),
    "HU_RANGE": ("refused", "holds values that cannot be Hounsfield units of a body"),
    "NONFINITE": ("refused", "holds values that are not finite"),
    "FLAT": ("refused", "holds one value only, so that it has no standard deviation"),
    "BAD_PIXELS": ("refused", "describes its pixels in a way that cannot hold CT values"),
    "DUP_FILE": ("set aside", "is a second copy of an image"),
    "LOCALIZER": ("set aside", "is a localizer"),
    "SECONDARY": ("set aside", "is a report, a secondary capture or another object without slices"),
    "DERIVED": ("set aside", "was derived from other images (a map, a projection)"),
    "REFORMAT": ("set aside", "is a reformat of another series"),
    "NONAXIAL": ("set aside", "is not axial"),
    "CONTRAST": ("set aside", "was acquired with contrast agent"),
    "NOT_HEAD": ("set aside", "does not show a head"),
    "BURNED_IN": ("set aside", "has text burned into its pixels"),
    "NOT_BEST": ("set aside", "another series of the study is better to score"),
    # Flags
    "TILT": ("flag", "was acquired with a tilted gantry; every slice keeps its own position"),
    "TILT_TAG": ("flag", "states another gantry tilt than its positions show; the positions count"),
    "SPACING_VARIES": ("flag", "has slices at uneven distances"),
    "OVERLAP": ("flag", "has slices that overlap"),
    "GAP": ("flag", "has a gap where slices may be missing"),
    "THICKNESS_VARIES": ("flag", "has slices of different thickness"),
    "NO_THICKNESS": ("flag", "does not state its slice thickness; the distance between slices stands in"),
    "KERNEL_UNKNOWN": ("flag", "has a reconstruction kernel that is not in the table"),
    "KERNEL_BONE": ("flag", "has a bone kernel, which inflates the volume above 130 HU"),
    "KERNEL_DOUBT": ("flag", "looks unlike what its kernel's name says"),
    "KVP": ("flag", "was acquired at an unusual tube voltage"),
    "SMALL_FIELD": ("flag", "has a small field of view"),
    "LOSSY": ("flag", "was once compressed with loss"),
    "HU_CLIPPED": ("flag", "holds values at the limit of what was stored"),
    # Localisation and region
    "REG_FAIL": ("refused", "could not be registered to the template"),
    "BAD_TEMPLATE": ("refused", "is no whole-head CT in MNI space"),
    "REG_LOWCONF": ("flag", "was registered with low confidence"),
    "PARTIAL_FOV": ("flag", "shows part of the head"),
    "ROI_ABSENT": ("refused", "does not show the artery region"),
    "ROI_PARTIAL": ("flag", "shows part of the artery region; the volume is a lower bound"),
    "OOD": ("flag", "looks unlike the scans that the method knows"),
    "METAL": ("flag", "holds metal near the region"),
    "MOTION": ("flag", "shows signs of motion"),
    # What a reader drew
    "BAD_CIRCLE": ("refused", "holds a circle that is not as described, or not on the scan"),
    "DOMAIN": ("flag", "comes from a domain on which the threshold was never chosen"),
    "NO_INTERVAL": ("flag", "has a volume without an interval: too few calibration cases are like it"),
    "OUT_OF_CAL_RANGE": ("flag", "has slices or a volume beyond what its model was calibrated on"),
    "OUT_OF_VALIDATED_RANGE": ("flag", "was made in a way in which its model was not shown to hold"),
    # Weights of another program
    "FOREIGN_CODE": ("refused", "holds code or objects of another program; nothing of it was run"),
    "NOT_WEIGHTS": ("refused", "holds no weights in a form that is read here"),
    "CRC": ("refused", "has another check sum than it states"),
    # A batch
    "WORKER_KILLED": ("refused", "killed the process that worked on it"),
    "DEADLINE": ("refused", "took longer than allowed"),
    "OOM": ("refused", "needed more memory than allowed"),
    "CANCELLED": ("refused", "was not reached before the batch was stopped"),
    "REJECTED": ("refused", "was rejected by a reviewer"),
    "INTERNAL": ("refused", "met an error in Apatite itself"),
}
"""Code → what kind of reason it is, and the end of a sentence that begins with the input."""
