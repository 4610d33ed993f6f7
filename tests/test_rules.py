"""The rule labeler: sentences with traps, sections, order, offsets, phrase files, and Open-i's human codes."""

import hashlib
import itertools
import math
import shutil
import textwrap
import time
import tracemalloc

import pytest

from cxrlib.base import vocabulary
from cxrlib.labelers import evidence, lexicon, rules
from cxrlib.releases import catalogue, openi_reports

# A sentence, and what it says: + present, - absent, ? uncertain, ~ not mentioned (or kept out).
SENTENCES = [
    ("No pneumothorax.", "-pneumothorax"),
    ("There is no evidence of pneumothorax or pleural effusion.", "-pneumothorax -effusion"),
    (
        "Without evidence of consolidation, pleural effusion or pneumothorax.",
        "-consolidation -effusion -pneumothorax",
    ),
    (
        "Lungs are clear without focal consolidation, effusion, or pneumothorax.",
        "-consolidation -effusion -pneumothorax -lung_opacity",
    ),
    ("No significant pleural effusion.", "-effusion"),
    ("No definite pneumothorax.", "-pneumothorax"),
    ("Cannot exclude a small pneumothorax.", "?pneumothorax"),
    ("A small pneumothorax cannot be excluded.", "?pneumothorax"),
    ("Pneumonia is not excluded.", "?pneumonia"),
    ("Early pneumonia cannot be entirely excluded.", "?pneumonia"),
    ("Pneumothorax has been excluded.", "-pneumothorax"),
    ("Unchanged pneumothorax.", "+pneumothorax"),
    ("No change in the effusion.", "+effusion"),
    ("No significant interval change in the left pleural effusion.", "+effusion"),
    ("No interval change in the small right apical pneumothorax.", "+pneumothorax"),
    ("No increase in the pleural effusion.", "+effusion"),
    ("Pneumothorax is not significantly changed.", "+pneumothorax"),
    ("The effusion has not increased.", "+effusion"),
    ("The pneumothorax has resolved.", "-pneumothorax"),
    ("Interval resolution of the right effusion.", "-effusion"),
    ("Resolved pneumothorax.", "-pneumothorax"),
    ("Previously seen effusion has resolved.", "-effusion"),
    ("The pneumothorax has not resolved.", "+pneumothorax"),
    ("The consolidation has not completely cleared.", "+consolidation"),
    ("Resolving pneumonia.", "+pneumonia"),
    ("Pneumothorax is not seen.", "-pneumothorax"),
    ("Pneumothorax is no longer seen.", "-pneumothorax"),
    ("No pneumothorax is seen and the heart is enlarged.", "-pneumothorax +cardiomegaly"),
    ("The heart is enlarged and pneumothorax is not seen.", "-pneumothorax +cardiomegaly"),
    ("The lungs are free of consolidation and effusion.", "-consolidation -effusion"),
    ("Not free of effusion.", "+effusion"),
    ("The lungs are not without nodules.", "+nodule"),
    ("History of pneumonia.", "~pneumonia"),
    ("Patient with a history of pneumothorax, now with cough.", "~pneumothorax"),
    ("Family history of emphysema.", "~emphysema"),
    ("Compared to prior, the effusion has decreased.", "+effusion"),
    ("Compared to the prior examination, there is a new pneumothorax.", "+pneumothorax"),
    ("In comparison with the prior study, no pneumothorax.", "-pneumothorax"),
    ("Prior pneumonia.", "~pneumonia"),
    ("Heart size normal.", "-cardiomegaly"),
    ("The heart is normal in size.", "-cardiomegaly"),
    ("Heart size is within normal limits.", "-cardiomegaly"),
    ("The heart is not enlarged.", "-cardiomegaly"),
    ("The cardiac silhouette is not significantly enlarged.", "-cardiomegaly"),
    ("The heart is mildly enlarged.", "+cardiomegaly"),
    ("Cardiac silhouette remains moderately enlarged.", "+cardiomegaly"),
    ("Borderline heart size.", "?cardiomegaly"),
    ("Lungs are clear.", "-lung_opacity +no_finding"),
    ("The lungs are clear bilaterally.", "-lung_opacity +no_finding"),
    ("The lungs are not clear.", "?lung_opacity"),
    ("No acute cardiopulmonary abnormality.", "+no_finding"),
    ("No acute cardiopulmonary disease.", "+no_finding"),
    ("No pneumothorax, but a small effusion.", "-pneumothorax +effusion"),
    ("No pneumothorax; small left effusion.", "-pneumothorax +effusion"),
    ("No pneumothorax, small left effusion.", "-pneumothorax +effusion"),
    ("No pneumothorax and mild cardiomegaly.", "-pneumothorax +cardiomegaly"),
    ("No pneumothorax, stable cardiomegaly.", "-pneumothorax +cardiomegaly"),
    ("No pneumothorax, effusion is unchanged.", "-pneumothorax +effusion"),
    ("No acute disease, cardiomegaly is stable.", "+cardiomegaly"),
    ("Although there is no pneumothorax, an effusion is present.", "-pneumothorax +effusion"),
    ("There is cardiomegaly without pulmonary edema.", "+cardiomegaly -edema"),
    ("Cardiomegaly with no edema or effusion.", "+cardiomegaly -edema -effusion"),
    ("Status post pneumonectomy.", "~pneumonia ~pneumothorax"),
    ("Post pneumonectomy changes on the left.", "~pneumonia ~pneumothorax"),
    ("Chest tube has been removed.", "-support_devices"),
    ("The endotracheal tube has been removed.", "-support_devices"),
    ("Interval removal of the left chest tube. No pneumothorax.", "-support_devices -pneumothorax"),
    ("Right chest tube removed, no pneumothorax.", "-support_devices -pneumothorax"),
    ("Right IJ catheter remains in place.", "+support_devices"),
    ("INDICATION: Rule out pneumothorax. FINDINGS: The lungs are clear.", "~pneumothorax +no_finding"),
    ("Rule out pneumonia.", "~pneumonia"),
    ("Indication: pneumonia?\nFindings: no consolidation.\nImpression: Normal.", "~pneumonia -consolidation"),
    ("Pneumonia has been ruled out.", "-pneumonia"),
    ("Cannot rule out pneumonia.", "?pneumonia"),
    ("Possible left lower lobe pneumonia.", "?pneumonia"),
    ("Opacity may represent atelectasis or pneumonia.", "?atelectasis ?pneumonia +lung_opacity"),
    ("Atelectasis versus pneumonia.", "?atelectasis ?pneumonia"),
    ("Opacity concerning for pneumonia.", "?pneumonia +lung_opacity"),
    ("No focal opacity to suggest pneumonia.", "-pneumonia -lung_opacity"),
    ("No findings suspicious for pneumonia.", "-pneumonia"),
    ("Pneumonia is unlikely.", "-pneumonia"),
    ("Negative for pneumothorax.", "-pneumothorax"),
    ("Neither pneumothorax nor effusion.", "-pneumothorax -effusion"),
    ("Absence of pleural effusion.", "-effusion"),
    ("Pneumothorax: none.", "-pneumothorax"),
    ("Pleural effusion: Absent.", "-effusion"),
    ("Effusions and atelectasis have resolved.", "-effusion -atelectasis"),
    ("Cardiomegaly and effusions are present, pneumothorax is absent.", "+cardiomegaly +effusion -pneumothorax"),
    ("Subcutaneous emphysema.", "~emphysema"),
    ("Pericardial effusion.", "~effusion"),
    ("Soft tissue edema.", "~edema"),
    ("No mass effect.", "~mass"),
    ("Hydropneumothorax on the left.", "+effusion +pneumothorax"),
    ("Congestive heart failure.", "?cardiomegaly ?edema"),
    ("Not only pneumonia but also an effusion.", "+pneumonia +effusion"),
    ("No new consolidation.", "-consolidation"),
    ("Atelectasis rather than pneumonia.", "+atelectasis -pneumonia"),
    ("There is no doubt about the pneumothorax.", "+pneumothorax"),
    ("No pneumothorax or pleural effusion is identified.", "-pneumothorax -effusion"),
    ("No pneumothorax.Small effusion.", "-pneumothorax +effusion"),
    ("No pneumothorax\nSmall effusion", "-pneumothorax +effusion"),
    (
        "There is no focal consolidation, large pleural\neffusion or pneumothorax.",
        "-consolidation -effusion -pneumothorax",
    ),
    ("Old healed right rib fractures.", "+fracture"),
    ("No acute rib fracture.", "-fracture"),
    ("No evidence of worsening edema.", "+edema"),
    ("No worsening of the effusion.", "+effusion"),
    ("Mediastinum is not widened.", "-enlarged_cardiomediastinum"),
    ("The mediastinum is widened.", "+enlarged_cardiomediastinum"),
    ("No pneumothorax status post chest tube removal.", "-pneumothorax -support_devices"),
    ("No pneumothorax following removal of the chest tube.", "-pneumothorax -support_devices"),
    ("There is no pneumothorax, however there is a small effusion.", "-pneumothorax +effusion"),
    ("It is not possible to exclude a small effusion.", "?effusion"),
    ("No pneumothorax with the exception of subcutaneous emphysema.", "-pneumothorax"),
    (
        "No pneumothorax, pleural effusion or consolidation; heart size normal.",
        "-pneumothorax -effusion -consolidation -cardiomegaly",
    ),
    ("There has been no change in cardiomegaly or the effusions.", "+cardiomegaly +effusion"),
    ("Without change in the right nodule.", "+nodule"),
    ("Absent pneumothorax, there is edema.", "-pneumothorax +edema"),
    ("Lungs: clear. Heart: normal. Pleura: no effusion.", "-lung_opacity -cardiomegaly -effusion"),
    ("Stable cardiomediastinal silhouette.", "~cardiomegaly"),
    (
        "No pulmonary edema, pneumonia, pneumothorax, or pleural effusion. Mild cardiomegaly.",
        "-edema -pneumonia -pneumothorax -effusion +cardiomegaly",
    ),
    ("The previously noted pneumothorax is not visualized.", "-pneumothorax"),
    ("The previously noted effusion is again seen.", "+effusion"),
    ("I see no pneumothorax.", "-pneumothorax"),
    ("Patient denies fracture.", "-fracture"),
    ("No longer any effusion.", "-effusion"),
    ("The nodule is no longer visible.", "-nodule"),
    ("Known pneumothorax.", "+pneumothorax"),
    ("Clear of infiltrate.", "-infiltration"),
    ("Resolution of the previously seen edema.", "-edema"),
    ("There is lack of consolidation.", "-consolidation"),
    ("Evaluate for pneumonia.", "~pneumonia"),
    ("CT recommended to exclude mass.", "~mass"),
    ("No cardiomegaly, no effusion, and no consolidation.", "-cardiomegaly -effusion -consolidation"),
    ("The heart size is normal. There is a moderate hiatal hernia.", "-cardiomegaly +hernia"),
    (
        "No evidence for acute pneumonia. Small effusion versus pleural thickening.",
        "-pneumonia ?effusion ?pleural_thickening",
    ),
    ("No pneumothorax is seen, mild cardiomegaly.", "-pneumothorax +cardiomegaly"),
    ("Small pneumothorax, no effusion.", "+pneumothorax -effusion"),
    ("Small pneumothorax, not effusion.", "+pneumothorax -effusion"),
    ("Pneumothorax has decreased, without effusion.", "+pneumothorax -effusion"),
    ("Pneumothorax is present and effusion is absent.", "+pneumothorax -effusion"),
    ("Effusion is absent but pneumothorax is present.", "+pneumothorax -effusion"),
    ("No reaccumulation of pleural effusion.", "-effusion"),
    ("No consolidation is seen; atelectasis is noted at the left base.", "-consolidation +atelectasis"),
    ("No pneumothorax on the left. Right apical pneumothorax is stable.", "+pneumothorax"),
    ("Heart is upper limits of normal in size.", "-cardiomegaly"),
    ("Heart size is not normal.", "?cardiomegaly"),
    ("No sign of heart failure.", "-edema -cardiomegaly"),
    ("Lungs are without focal consolidation, effusion, or pneumothorax.", "-consolidation -effusion -pneumothorax"),
    ("No acute osseous abnormality. Heart is normal.", "+no_finding -cardiomegaly"),
    ("The lungs are hyperinflated but clear.", "-lung_opacity"),
    (
        "There is no pneumothorax or pleural effusion, and the lungs are clear.",
        "-pneumothorax -effusion -lung_opacity",
    ),
    ("There is no pleural effusion; however, a small pneumothorax is seen.", "-effusion +pneumothorax"),
    ("Small right pleural effusion without pneumothorax.", "+effusion -pneumothorax"),
    ("No evidence of pneumothorax after chest tube placement.", "-pneumothorax +support_devices"),
    ("Endotracheal tube terminates 3 cm above the carina. No pneumothorax.", "+support_devices -pneumothorax"),
    ("Interval removal of endotracheal tube. Stable right PICC.", "+support_devices"),
    ("Pacemaker leads in unchanged position.", "+support_devices"),
    ("No support devices.", "-support_devices"),
    ("The patient has been extubated.", "~support_devices"),
    ("No consolidation, though there is mild edema.", "-consolidation +edema"),
    ("Except for a small effusion, no abnormality.", "+effusion"),
    ("No abnormality other than cardiomegaly.", "+cardiomegaly"),
    ("No findings to suggest pneumonia or edema.", "-pneumonia -edema"),
    ("Findings are not suggestive of pneumonia.", "-pneumonia"),
    ("Findings suggest pneumonia.", "?pneumonia"),
    ("Findings consistent with pneumonia.", "+pneumonia"),
    ("Findings compatible with mild pulmonary edema.", "+edema"),
    ("No opacity consistent with pneumonia.", "-pneumonia -lung_opacity"),
    ("Suspected pneumothorax.", "?pneumothorax"),
    ("Questionable nodule in the right upper lobe.", "?nodule"),
    ("? pneumonia.", "?pneumonia"),
    ("Pneumonia?", "?pneumonia"),
    ("Small effusion may be present.", "?effusion"),
    ("Differential includes atelectasis, pneumonia, and aspiration.", "?atelectasis ?pneumonia"),
    ("Pneumonia cannot be ruled out.", "?pneumonia"),
    ("Underlying consolidation is difficult to exclude.", "?consolidation"),
    ("No definite evidence of pneumonia, although early pneumonia cannot be excluded.", "?pneumonia"),
    ("Pneumothorax has increased.", "+pneumothorax"),
    ("Decreased effusion.", "+effusion"),
    ("Improved edema.", "+edema"),
    ("The right pneumothorax is smaller.", "+pneumothorax"),
    ("The effusion is nearly resolved.", "+effusion"),
    ("Near complete resolution of the left effusion.", "+effusion"),
    ("Complete resolution of the left effusion.", "-effusion"),
    ("The effusions have completely resolved.", "-effusion"),
    ("Previously described right lower lobe pneumonia has cleared.", "-pneumonia"),
    ("No residual pneumothorax.", "-pneumothorax"),
    ("No recurrent pneumothorax.", "-pneumothorax"),
    ("No enlarging effusion.", "+effusion"),
    ("Not a pneumothorax.", "-pneumothorax"),
    ("This does not represent a pneumothorax.", "-pneumothorax"),
    ("Pneumothorax is not identified on this study.", "-pneumothorax"),
    ("Neither effusion nor pneumothorax is seen.", "-effusion -pneumothorax"),
    ("No large effusion, but a small one is possible.", "?effusion"),
    ("No large pleural effusion.", "-effusion"),
    ("Heart and lungs are normal.", "-cardiomegaly -lung_opacity"),
    ("Heart, mediastinum and lungs are normal.", "-cardiomegaly"),
    ("Normal heart size. Clear lungs.", "-cardiomegaly -lung_opacity"),
    ("The cardiomediastinal silhouette is within normal limits.", "-cardiomegaly -enlarged_cardiomediastinum"),
    ("Cardiomediastinal silhouette is stable.", "~cardiomegaly +no_finding"),
    ("Cardiomegaly is stable.", "+cardiomegaly"),
    ("Cardiomegaly is not present.", "-cardiomegaly"),
    ("No cardiomegaly.", "-cardiomegaly"),
    ("The heart size is top normal.", "-cardiomegaly"),
    ("Heart size cannot be assessed.", "~cardiomegaly"),
    ("The heart is enlarged but stable.", "+cardiomegaly"),
    ("The heart remains enlarged; no edema.", "+cardiomegaly -edema"),
    ("Clinical history: pneumothorax.\nNo pneumothorax is seen.", "-pneumothorax"),
    ("COMPARISON: Chest radiograph with pneumothorax.\nFINDINGS: Normal.", "~pneumothorax"),
    ("REASON FOR EXAM: assess for effusion\n\nThere is no effusion.", "-effusion"),
    (
        "HISTORY: CHF.\nFINDINGS:\nNo edema.\nIMPRESSION:\n1. No acute process.\n2. Cardiomegaly.",
        "-edema +cardiomegaly",
    ),
    ("Patient with known metastatic disease. No nodules.", "-nodule"),
    ("Granulomatous disease. No nodule or mass.", "-nodule -mass"),
    ("Mass-like opacity in the left upper lobe.", "+mass"),
    ("Left hilar mass.", "+mass"),
    ("Masses are not identified.", "-mass"),
    ("Biapical pleural thickening.", "+pleural_thickening +pleural_other"),
    ("No pleural thickening or effusion.", "-pleural_thickening -effusion"),
    ("Compression deformity of T12.", "?fracture"),
    ("No displaced rib fracture identified.", "-fracture"),
    ("Hiatal hernia.", "+hernia"),
    ("Pulmonary fibrosis with honeycombing.", "+fibrosis"),
    ("Emphysematous changes without pneumothorax.", "+emphysema -pneumothorax"),
    ("Infiltrates have cleared.", "-infiltration"),
    ("PNEUMOTHORAX IS NOT SEEN. SMALL EFFUSION.", "-pneumothorax +effusion"),
    ("no pneumothorax  or\n  effusion", "-pneumothorax -effusion"),
    ("There is a pneumothorax; it is not large.", "+pneumothorax"),
    ("The pneumothorax is not large.", "+pneumothorax"),
    ("The effusion is not new.", "+effusion"),
    ("The consolidation does not appear to have changed.", "+consolidation"),
    ("Effusion has not significantly changed, no pneumothorax.", "+effusion -pneumothorax"),
    ("Unremarkable chest.", "+no_finding"),
    ("Atelectasis without consolidation.", "+atelectasis -consolidation"),
    ("Left lower lobe opacity, likely atelectasis, without effusion.", "+lung_opacity +atelectasis -effusion"),
    (
        "Bibasilar opacities, which may represent atelectasis, with no pneumothorax.",
        "+lung_opacity ?atelectasis -pneumothorax",
    ),
    (
        "No focal consolidation or effusion. Atelectasis in the left base cannot be excluded.",
        "-consolidation -effusion ?atelectasis",
    ),
    ("Mother has a history of emphysema.", "~emphysema"),
    ("Patient is status post resection of lung mass.", "~mass"),
    ("s/p pneumonia treatment", "~pneumonia"),
    ("Follow up CT for nodule.", "+nodule"),
    ("No pneumothorax, hemothorax, or contusion.", "-pneumothorax -effusion"),
    ("No pneumonia is seen but there is atelectasis and small effusion.", "-pneumonia +atelectasis +effusion"),
    ("There are no new nodules.", "-nodule"),
    ("No interval development of effusion.", "-effusion"),
    ("No effusion has developed.", "-effusion"),
    ("Interval development of a pneumothorax.", "+pneumothorax"),
    ("It is unclear whether there is pneumothorax.", "?pneumothorax"),
    ("Pneumothorax versus skin fold.", "?pneumothorax"),
    ("Skin fold rather than pneumothorax.", "-pneumothorax"),
    ("No evidence of active TB. Old fibrotic scarring.", "+fibrosis"),
    (
        "The previously seen pneumothorax is no longer present, and the effusion is unchanged.",
        "-pneumothorax +effusion",
    ),
    ("Effusion, atelectasis, and edema are absent.", "-effusion -atelectasis -edema"),
    ("No edema and no effusion but cardiomegaly is noted.", "-edema -effusion +cardiomegaly"),
    ("No edema, effusion but cardiomegaly.", "-edema -effusion +cardiomegaly"),
    ("No pneumothorax (small effusion).", "-pneumothorax +effusion"),
    ("Minimal, if any, effusion.", "?effusion"),
    ("Trace if any pleural effusion.", "?effusion"),
    ("Little change in the large effusion.", "+effusion"),
    ("Without significant change in cardiomegaly.", "+cardiomegaly"),
    (
        "Lungs clear without evidence of consolidation, effusion, edema or pneumothorax.",
        "-lung_opacity -consolidation -effusion -edema -pneumothorax",
    ),
    ("Lungs clear.", "-lung_opacity"),
    ("Lungs are grossly clear.", "-lung_opacity"),
    ("No pulmonary nodules, masses, or infiltrates are seen in the lungs.", "-nodule -mass -infiltration"),
    ("Improved but not resolved pneumonia.", "+pneumonia"),
    ("Persistent though improved effusion.", "+effusion"),
    ("Not enlarged heart.", "-cardiomegaly"),
    ("Nonenlarged heart.", "~cardiomegaly"),
    ("The heart is not enlarged and the lungs are clear.", "-cardiomegaly -lung_opacity"),
    ("The heart does not appear enlarged.", "-cardiomegaly"),
    ("There is no cardiac enlargement.", "-cardiomegaly"),
    ("No enlargement of the cardiac silhouette.", "-cardiomegaly"),
    ("Negative chest.", "+no_finding"),
    ("No evidence of acute cardiopulmonary process. No pneumothorax.", "+no_finding -pneumothorax"),
]
# Traps by what makes them such, in the same signs.
TRAPS = {
    "a word after its subject and verb that acts forward": [
        ("CT is negative for pneumothorax.", "-pneumothorax"),
        ("Lungs are negative for consolidation.", "-consolidation"),
        ("The exam is negative for pneumonia, effusion or pneumothorax.", "-pneumonia -effusion -pneumothorax"),
        ("The nodule is unlikely to be a mass.", "+nodule -mass"),
        ("The opacity is unlikely to be due to pneumonia.", "+lung_opacity -pneumonia"),
        ("The opacity is thought unlikely to represent pneumonia.", "+lung_opacity -pneumonia"),
        ("The opacity is felt to be unlikely to represent pneumonia.", "+lung_opacity -pneumonia"),
        ("Consolidation, unlikely to represent pneumonia.", "+consolidation -pneumonia"),
        ("No effusion and the opacity is unlikely to represent pneumonia.", "-effusion +lung_opacity -pneumonia"),
        ("The opacity is unlikely due to pneumonia.", "+lung_opacity -pneumonia"),
    ],
    "less likely leaves it open": [
        ("Pneumonia is felt to be less likely.", "?pneumonia"),
        ("Atelectasis, pneumonia less likely.", "+atelectasis ?pneumonia"),
        ("Likely atelectasis, with pneumonia less likely.", "+atelectasis ?pneumonia"),
        ("Opacity may represent atelectasis, less likely pneumonia.", "+lung_opacity ?atelectasis ?pneumonia"),
        ("Atelectasis, and less likely pneumonia.", "+atelectasis ?pneumonia"),
    ],
    "status post keeps out what was done, not what is seen": [
        ("Status post CABG with cardiomegaly and bilateral effusions.", "+cardiomegaly +effusion"),
        ("Status post thoracentesis, small pneumothorax.", "+pneumothorax"),
        ("Status post thoracentesis and small pneumothorax.", "+pneumothorax"),
        ("s/p chest tube removal, now with a moderate pneumothorax.", "-support_devices +pneumothorax"),
        ("Status post chest tube removal, now with a moderate pneumothorax.", "+pneumothorax"),
        ("Status post chest tube removal now with a moderate pneumothorax.", "+pneumothorax"),
        ("Post-obstructive pneumonia.", "+pneumonia"),
        ("Post-traumatic pneumothorax.", "+pneumothorax"),
        ("Post-operative atelectasis.", "+atelectasis"),
        ("Postobstructive pneumonia.", "+pneumonia"),
        ("Status post resection of a left lung mass.", "~mass"),
        ("Status post treatment for pneumonia.", "~pneumonia"),
    ],
    "dashes, colons and sides end a denial": [
        ("No PTX - bibasilar atelectasis is present.", "-pneumothorax +atelectasis"),
        ("No pneumothorax -- effusion.", "-pneumothorax +effusion"),
        ("No pneumothorax: effusion on the left.", "-pneumothorax +effusion"),
        ("No pneumothorax — left effusion.", "-pneumothorax +effusion"),
        ("Small effusion - no pneumothorax.", "+effusion -pneumothorax"),
        ("Small effusion - pneumothorax is not seen.", "+effusion -pneumothorax"),
        ("Pneumothorax - none.", "-pneumothorax"),
        ("No edema, bilateral pleural effusions are seen.", "-edema +effusion"),
        ("No PTX and bilateral effusions stable.", "-pneumothorax +effusion"),
        ("No pneumothorax, effusion or edema.", "-pneumothorax -effusion -edema"),
        ("No left or right effusion.", "-effusion"),
        ("No left and right effusion.", "-effusion"),
        (
            "No focal consolidation, pleural effusion, or bilateral pneumothorax.",
            "-consolidation -effusion -pneumothorax",
        ),
        ("No right effusion, left effusion, or pneumothorax.", "-effusion -pneumothorax"),
        ("No acute disease, right basilar atelectasis.", "+atelectasis"),
    ],
    "comparison and technique end with their sentence": [
        ("COMPARISON: None. There is an effusion.\n\nIMPRESSION: No edema.", "+effusion -edema"),
        ("TECHNIQUE: Portable AP\nSmall left effusion.", "+effusion"),
        ("COMPARISON: 5/5/2010. There is a left pneumothorax which is new.", "+pneumothorax"),
        ("INDICATION: Cough. History of pneumonia.", "~pneumonia"),
    ],
    "lines in small letters": [
        ("No evidence of pneumonia\nunchanged cardiomegaly\nleft effusion", "-pneumonia +cardiomegaly +effusion"),
        ("There is no evidence of pneumothorax or\nleft effusion.", "-pneumothorax -effusion"),
        ("There is no consolidation, new\nleft effusion, or edema.", "-consolidation -effusion -edema"),
        ("no pneumonia\nsmall effusion\nno edema", "-pneumonia +effusion -edema"),
        ("FINDINGS: no pneumonia\nsmall effusion", "-pneumonia +effusion"),
    ],
    "sections that are ignored": [
        ("MEDICAL CONDITION: pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("ICD10: J18.9 pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("ICD-10: J18.9 pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("DX: pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("SIGNS AND SYMPTOMS: pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("Clinical info: pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("CLINICAL QUESTION: pneumonia?\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("ORDERING DIAGNOSIS: pneumonia\nFINDINGS: Clear lungs.", "~pneumonia"),
        ("FINDINGS: Clear lungs.\nRECOMMENDATION(S): CT for nodule.", "~nodule"),
    ],
    "words": [
        ("Heart size: Enlarged.", "+cardiomegaly"),
        ("HEART AND MEDIASTINUM: Enlarged.", "+cardiomegaly"),
        ("Right pleural eff.", "+effusion"),
        ("RLL collapse.", "+atelectasis"),
        ("Fracture of the pacemaker lead.", "~fracture +support_devices"),
        ("Pacemaker lead fracture.", "~fracture"),
        ("LLL PNA and small left effs.", "+pneumonia +effusion"),
        ("Bibasilar atx, no consol.", "+atelectasis -consolidation"),
        ("Pericardial eff.", "~effusion"),
        ("Cardiothoracic ratio is increased.", "+cardiomegaly"),
        ("Increased cardiac silhouette.", "+cardiomegaly"),
        ("IPF.", "+fibrosis"),
        ("Tracheostomy in place.", "+support_devices"),
        ("Left PPM.", "+support_devices"),
        ("TAVR valve in place.", "+support_devices"),
        ("Sternotomy wires are intact.", "~support_devices"),
        ("Hardware in the humerus.", "+support_devices"),
        ("No pnuemothorax.", "-pneumothorax"),
        ("Left lower lobe pnemonia.", "+pneumonia"),
        ("Mild cardiomegally.", "+cardiomegaly"),
        ("Bibasilar atelectesis.", "+atelectasis"),
    ],
    "what is gone": [
        ("No longer seen is the right pneumothorax.", "-pneumothorax"),
        ("The pneumothorax seen earlier today is gone.", "-pneumothorax"),
        ("The left effusion has been drained completely.", "-effusion"),
    ],
    "what is carried over to the statement before": [
        ("Left effusion was seen previously, now resolved.", "-effusion"),
        ("There was an effusion, which has resolved.", "-effusion"),
        ("Pneumothorax was seen previously but has resolved.", "-pneumothorax"),
        ("Effusion was seen and has since resolved.", "-effusion"),
        ("Cardiomegaly is present, absent pneumothorax.", "+cardiomegaly -pneumothorax"),
        ("The effusion is unchanged, the tube has been removed.", "+effusion -support_devices"),
        ("Cardiomegaly is unchanged and NG has been removed.", "+cardiomegaly"),
        ("Opacity is present, ? pneumonia.", "+lung_opacity ?pneumonia"),
    ],
    "not there, and there after all": [
        ("Nothing to suggest pneumothorax.", "-pneumothorax"),
        ("CT excluded a mass.", "-mass"),
        ("Skin fold mimicking a pneumothorax.", "-pneumothorax"),
        ("No pneumothorax, with the exception of a tiny residual pneumothorax.", "+pneumothorax"),
        ("Normal excluding the small effusion.", "+effusion"),
        ("No abnormality besides small left effusion.", "+effusion"),
        ("No displacement of the rib fracture.", "+fracture"),
        ("Atelectasis cannot be distinguished from pneumonia.", "?atelectasis ?pneumonia"),
        ("Mass and effusion cannot be differentiated from consolidation.", "?effusion ?consolidation"),
        ("Minimal, if any, residual pneumothorax.", "?pneumothorax"),
    ],
    "a stand-in refers back": [
        ("No pneumothorax but a small one cannot be excluded.", "?pneumothorax"),
        ("No large effusion, though a small one is possible.", "?effusion"),
        ("No edema. No pneumothorax, but it cannot be excluded.", "?pneumothorax -edema"),
    ],
    "named, or asked": [
        ("CT for further evaluation of the right upper lobe nodule.", "+nodule"),
        ("If there is concern for pneumonia, lateral views may help.", "~pneumonia"),
        ("Airspace opacity consistent with pneumonia in the proper clinical setting.", "+lung_opacity ?pneumonia"),
        ("The mass is not well seen.", "?mass"),
        ("Opacity is seen, in the right clinical setting consistent with pneumonia.", "+lung_opacity ?pneumonia"),
        ("Opacity unlikely pneumonia.", "+lung_opacity -pneumonia"),
        ("Pneumonia unlikely, small effusion.", "-pneumonia +effusion"),
        ("Left lower lobe opacity: pneumonia is not excluded.", "+lung_opacity ?pneumonia"),
        ("No evidence of: pneumothorax, effusion.", "-pneumothorax -effusion"),
    ],
}
SIGNS = {"+": 1.0, "-": 0.0, "?": -1.0, "~": math.nan}


@pytest.fixture(scope="module")
def labeler():
    return rules.RuleLabeler()


def equal(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def said(reading, finding):
    return [(m.text, m.assertion, m.rule) for m in reading.evidence if m.finding == finding]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_sentences(labeler, text, expected):
    reading = labeler.read(text)
    for sign, finding in ((word[0], word[1:]) for word in expected.split()):
        assert equal(reading.labels[finding], SIGNS[sign]), (finding, said(reading, finding))


@pytest.mark.parametrize(
    ("text", "expected"),
    [pytest.param(*trap, id=f"{name}-{trap[0]}") for name, traps in TRAPS.items() for trap in traps],
)
def test_traps(labeler, text, expected):
    test_sentences(labeler, text, expected)


@pytest.mark.parametrize("repeated", ["no effusion or ", "no effusion, ", "without effusion "])
def test_a_sentence_without_end_is_cut_before_its_next_denial(labeler, repeated):
    assert labeler.read(repeated * 1_000).labels["effusion"] == 0.0


def test_wrapping_a_report_changes_nothing(labeler):
    text = (
        "There is no focal consolidation, left pleural effusion, or small pneumothorax seen on the left. Mild edema."
    )
    for width in range(30, 120):
        wrapped = labeler.labels(textwrap.fill(text, width))
        assert all(equal(wrapped[f], v) for f, v in labeler.labels(text).items()), width


def test_there_are_enough_sentences():
    assert len(SENTENCES) >= 250 and len({text for text, _ in SENTENCES}) == len(SENTENCES)


# --- evidence -----------------------------------------------------------------------------------------------


REPORT = """INDICATION: Rule out pneumothorax. History of CHF.

FINDINGS: The heart is mildly enlarged. No pneumothorax or
pleural effusion. Opacity in the left base, which may represent atelectasis.

IMPRESSION:
1. Cardiomegaly.
2. No pneumothorax."""


def test_evidence_says_which_words_and_which_rule(labeler):
    reading = labeler.read(REPORT)
    for m in reading.evidence:
        assert REPORT[m.start : m.end] == m.text and 0 <= m.rule_start < m.rule_end <= len(REPORT)
    told = {(m.finding, m.assertion, m.rule, REPORT[m.rule_start : m.rule_end]) for m in reading.evidence}
    assert ("pneumothorax", "absent", "negation before", "No") in told
    assert ("effusion", "absent", "negation before", "No") in told
    assert ("atelectasis", "uncertain", "uncertainty before list", "may represent") in told
    assert ("cardiomegaly", "present", "named", "heart is mildly enlarged") in told
    assert ("pneumothorax", "kept_out", "ignored section", "pneumothorax") in told
    sections = {m.section for m in reading.evidence}
    assert sections == {"ignored", "findings", "impression"}
    assert [m.start for m in reading.evidence] == sorted(m.start for m in reading.evidence)


def test_every_finding_has_a_label_and_labels_alone_are_the_same(labeler):
    for text in [REPORT, "", "INDICATION: cough.", *(text for text, _ in SENTENCES)]:
        labels = labeler.read(text).labels
        assert tuple(labels) == rules.LABELED_FINDINGS and all(
            equal(labels[f], v) for f, v in labeler.labels(text).items()
        )
    assert set(rules.LABELED_FINDINGS) == {*vocabulary.NIH_FINDINGS.values(), *vocabulary.CHEXPERT_FINDINGS.values()}


def test_offsets_hold_with_letters_that_change_length_in_lower_case(labeler):
    text = "İİİ ﬁndings: No pneumothorax. ’Heart’ size: enlarged."
    reading = labeler.read(text)
    assert [m.text for m in reading.evidence if m.finding == "pneumothorax"] == ["pneumothorax"]
    assert all(text[m.start : m.end] == m.text for m in reading.evidence)


def test_html_marks_mentions_and_escapes(labeler):
    text = "No <b>pneumothorax</b> & small effusion."
    shown = evidence.html(text, labeler.read(text))
    assert "<b>" not in shown and "&lt;b&gt;" in shown and "<u>No</u>" in shown
    assert "pneumothorax: absent (negation before: No)" in shown
    assert shown._repr_html_() == shown
    with pytest.raises(ValueError, match="another text"):
        evidence.html("Other words than those.", labeler.read(text))


@pytest.mark.parametrize(
    "text", ["no effusion and ", "heart size ", "a: ", "NO EFFUSION ", "((effusion ", "x\n", "-"]
)
def test_endless_text_takes_no_endless_time(labeler, text):
    text *= 20_000 // len(text)
    start = time.perf_counter()
    assert all(text[m.start : m.end] == m.text for m in labeler.read(text).evidence)
    assert time.perf_counter() - start < 10


def test_a_report_is_text(labeler):
    with pytest.raises(TypeError, match="not float"):
        labeler.read(math.nan)


# --- sections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "INDICATION: pneumonia. FINDINGS: Clear lungs.",
        "Indication: pneumonia\nFindings: Clear lungs.",
        "Reason for exam: pneumonia Findings: Clear lungs.",
        "HISTORY\npneumonia\n\nFINDINGS\nClear lungs.",
        "INDICATION: cough,\npneumonia seen before\n\nThe lungs are clear.",
        "Clinical information: pneumonia.\nLUNGS: clear lungs.",
        "**Indication**: pneumonia\n**Impression**: Clear lungs.",
        "COMPARISON: Film with pneumonia. IMPRESSION: Clear lungs.",
        "TECHNIQUE: PA for pneumonia.\nREPORT: Clear lungs.",
    ],
)
def test_indication_history_comparison_and_technique_are_kept_out(labeler, text):
    reading = labeler.read(text)
    assert math.isnan(reading.labels["pneumonia"]), said(reading, "pneumonia")
    assert reading.labels["lung_opacity"] == 0.0 and reading.labels["no_finding"] == 1.0


def test_a_colon_within_a_sentence_opens_no_section(labeler):
    reading = labeler.read("There are two findings: a history: of effusion is not one, but cardiomegaly is.")
    assert reading.labels["cardiomegaly"] == 1.0


def test_nothing_read_is_no_no_finding(labeler):
    for text in ("", "  \n ", "INDICATION: pneumonia.", "COMPARISON: None.", "TECHNIQUE: PA.\n"):
        assert math.isnan(labeler.read(text).labels["no_finding"])


# --- aggregation --------------------------------------------------------------------------------------------

SAYS = {1.0: "Pneumonia.", -1.0: "Possible pneumonia.", 0.0: "No pneumonia."}


@pytest.mark.parametrize("order", [order for n in (1, 2, 3) for order in itertools.permutations(SAYS, n)])
def test_present_beats_uncertain_beats_absent(labeler, order):
    labels = labeler.read(" ".join(SAYS[value] for value in order)).labels
    assert labels["pneumonia"] == (1.0 if 1.0 in order else -1.0 if -1.0 in order else 0.0)
    assert labels["no_finding"] == float(order == (0.0,))


def test_no_finding_looks_at_all_findings_but_devices(labeler):
    assert labeler.read("Right PICC. Clear lungs.").labels["no_finding"] == 1.0
    assert labeler.read("Possible nodule.").labels["no_finding"] == 0.0
    assert labeler.read("Degenerative change of the spine.").labels["no_finding"] == 1.0


def test_heart_failure_makes_cardiomegaly_uncertain(labeler):
    assert labeler.read("CHF.").labels["cardiomegaly"] == -1.0
    assert labeler.read("CHF with cardiomegaly.").labels["cardiomegaly"] == 1.0


def test_nih_aggregation():
    labels = rules.RuleLabeler(aggregation="nih").read("Possible nodule. No effusion.").labels
    assert labels["nodule"] == labels["effusion"] == labels["mass"] == 0.0 and labels["no_finding"] == 1.0
    with pytest.raises(ValueError, match="chexpert, nih"):
        rules.RuleLabeler(aggregation="mimic")


# --- phrase files -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(lexicon.PHRASES, tmp_path / "phrases")
    return tmp_path / "phrases"


def test_an_edited_phrase_counts(folder):
    file = folder / "findings" / "pneumothorax.txt"
    file.write_text(file.read_text() + "\n[present]\nair where (no|little) air should be*  # ours\n")
    text = "Air where no air should be."
    assert rules.RuleLabeler(folder).read(text).labels["pneumothorax"] == 1.0
    assert math.isnan(rules.RuleLabeler().read(text).labels["pneumothorax"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[present]\npneumothora(x\n", r"pneumothorax.txt line 2: .* brackets do not match"),
        ("[present]\nok\n\npneumo((x)|y)\n", r"line 4: .* brackets inside brackets"),
        ("[present]\nx|y\n", r"line 2: .* outside of them"),
        ("[present]\npn*eumo\n", r"line 2: .* only at the end of a word"),
        ("[present]\n... air\n", r"line 2: .* starts or ends with"),
        ("[present]\nheart ...large\n", r"line 2: .* a space on both sides"),
        ("[present]\n(a|b|)\n", r"line 2: .* it is empty"),
        ("[present]\n" + "(a|b|c|d|e|f|g|h) " * 5 + "\n", r"line 2: .* more than 5,000 spellings"),
        ("[presence]\nair\n", r"line 1: '\[presence\]' is none of the headings"),
        ("air\n", r"line 1: 'air' stands before any heading"),
        ("# nothing\n", "has no phrase"),
    ],
)
def test_a_broken_phrase_file_is_named_with_its_line(folder, lines, message):
    (folder / "findings" / "pneumothorax.txt").write_text(lines)
    with pytest.raises(ValueError, match=message):
        rules.RuleLabeler(folder)


def test_a_missing_or_undecodable_phrase_file_is_named(folder):
    file = folder / "rules" / "negation.txt"
    file.write_bytes("[before]\nkein Erguß\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"negation.txt is not UTF-8 text \(byte"):
        rules.RuleLabeler(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"negation.txt is missing"):
        rules.RuleLabeler(folder)


def test_a_gap_is_for_findings_only(folder):
    (folder / "rules" / "negation.txt").write_text("[before]\nno ... sign\n")
    with pytest.raises(ValueError, match=r"negation.txt: 'no ... sign'"):
        rules.RuleLabeler(folder)


# --- many reports -------------------------------------------------------------------------------------------


def stream(n):
    return ((str(k), SENTENCES[k % len(SENTENCES)][0]) for k in range(n))


def flat(labelled):
    return [(i, [None if math.isnan(v) else v for v in r.labels.values()], r.evidence) for i, r in labelled]


def test_processes_change_nothing():
    one = flat(rules.label_reports(stream(700), workers=1, evidence=True))
    two = flat(rules.label_reports(stream(700), workers=2, chunk=50, evidence=True))
    assert one == two and [i for i, *_ in one] == [str(k) for k in range(700)]
    assert all(not r.evidence for _, r in rules.label_reports(stream(3)))
    assert list(rules.label_reports([])) == []


def test_the_stream_is_taken_as_it_is_read():
    taken = itertools.count()
    labelled = rules.label_reports(((str(next(taken)), text) for _, text in stream(100_000)), workers=2, chunk=10)
    next(labelled)
    assert next(taken) < 200
    labelled.close()


def test_memory_does_not_grow_with_the_number_of_reports(labeler):
    def peak(n):
        tracemalloc.start()
        for _ in rules.label_reports(stream(n), workers=1, chunk=100, labeler=labeler):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1_000)  # sentences are remembered
    assert peak(8_000) < 1.3 * peak(1_000)


def test_remembered_sentences_are_bounded(monkeypatch):
    monkeypatch.setattr(rules, "REMEMBERED", 10)
    fresh = rules.RuleLabeler()
    for k in range(100):
        fresh.read(f"Nodule of {k} mm.")
    assert len(fresh._remembered) <= 10


# --- Open-i -------------------------------------------------------------------------------------------------

NIH = tuple(vocabulary.NIH_FINDINGS.values())


def development(report_id):
    """Return whether a report is of the half that the phrases were tuned on; the other half was read once."""
    return hashlib.sha256(report_id.encode()).digest()[0] % 2 == 0


def f1(pairs):
    """Return F1, and the number of positives, of pairs of truth and label."""
    hits = sum(truth and label for truth, label in pairs)
    wrong = sum(truth != label for truth, label in pairs)
    return 2 * hits / max(1, 2 * hits + wrong), sum(truth for truth, _ in pairs)


@pytest.fixture(scope="module")
def read_openi(labeler):
    return {report.report_id: labeler.labels(report.text) for report in openi_reports.read_reports()}


def agreement(table, read, findings):
    """Return finding to pairs of human code and our present label, where the code is assessed."""
    rows = table.set_index("image_id")
    return {
        finding: [(value == 1, read[i][finding] == 1) for i, value in rows[finding].items() if not math.isnan(value)]
        for finding in findings
    }


@pytest.fixture(scope="module")
def gold():
    if not catalogue.available("openi_gold"):
        pytest.skip(f"the human codes of Open-i are not here: {catalogue.where('openi_gold')}")
    return catalogue.read_release("openi_gold").table


@pytest.mark.parametrize("part", ["all", "development", "unseen"])
def test_openi_gold(gold, read_openi, part):
    """Present findings against the human codes; hernia is left out, which that table never codes."""
    if part != "all":
        gold = gold[[development(i) == (part == "development") for i in gold["image_id"]]]
    pairs = agreement(gold, read_openi, [f for f in NIH if f != "hernia"])
    assert f1(list(itertools.chain(*pairs.values())))[0] >= 0.90
    for finding, some in pairs.items():
        score, positives_n = f1(some)
        assert positives_n < 20 or score >= 0.75, (finding, score, positives_n)


def test_the_gold_table_codes_no_hernia_though_reports_and_codes_have_them(gold, read_openi):
    assert gold["hernia"].sum() == 0
    codes = catalogue.read_release("openi_codes").table
    score, positives_n = f1(agreement(codes, read_openi, ["hernia"])["hernia"])
    assert positives_n >= 40 and score >= 0.85


def test_openi_codes(read_openi):
    """As `test_openi_gold`, against the codes in the torchxrayvision package, hernia and devices included."""
    pairs = agreement(catalogue.read_release("openi_codes").table, read_openi, [*NIH, "fracture"])
    assert f1(list(itertools.chain(*pairs.values())))[0] >= 0.88
    for finding in ("atelectasis", "cardiomegaly", "effusion", "emphysema", "nodule", "hernia", "pneumothorax"):
        assert f1(pairs[finding])[0] >= 0.75, finding


def test_normal_reports_have_no_finding(read_openi):
    codes = catalogue.read_release("openi_codes").table.set_index("image_id")["no_finding"]
    normal = [read_openi[i]["no_finding"] for i, value in codes.items() if value == 1]
    assert sum(value == 1 for value in normal) / len(normal) >= 0.95
